-- A ledger as tables of version 1 have it: written by trainwatt before version 2, dumped by sqlite3.
PRAGMA application_id=1415007303;
PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE checkpoint (
            key INTEGER PRIMARY KEY CHECK (key = 1), boot TEXT NOT NULL, mono_s REAL NOT NULL, wall_s REAL NOT NULL,
            node TEXT NOT NULL
        );
INSERT INTO "checkpoint" VALUES(1,'boot-1',1015.0,1790001015.0,'{"energy_j":[["gpu","counter",6435.705688706477],["cpu","counter",2824.3853480344187]],"emissions_g":[["counter","lifecycle","static",1.106516572702782]],"unpriced_j":0.0}');
CREATE TABLE devices (key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, about TEXT NOT NULL);
INSERT INTO "devices" VALUES(1,'GPU-a','{"id": "GPU-a", "component": "gpu", "source": "nvml", "max_power_w": 1000.0, "model": "", "index": "", "origin": "measured", "calibration_ratio": 1.0, "error_ratio": null, "slices": [], "counter_epoch": "driver-1", "within": ""}');
INSERT INTO "devices" VALUES(2,'GPU-b','{"id": "GPU-b", "component": "gpu", "source": "nvml", "max_power_w": 1000.0, "model": "", "index": "", "origin": "measured", "calibration_ratio": 1.0, "error_ratio": null, "slices": [], "counter_epoch": null, "within": ""}');
INSERT INTO "devices" VALUES(3,'package-0','{"id": "package-0", "component": "cpu", "source": "rapl", "max_power_w": 500.0, "model": "", "index": "", "origin": "measured", "calibration_ratio": 1.0, "error_ratio": null, "slices": [], "counter_epoch": "driver-1", "within": ""}');
CREATE TABLE factors (
            used_from_s REAL NOT NULL, used_until_s REAL, zone TEXT NOT NULL, grams_per_kilowatthour REAL NOT NULL,
            basis TEXT NOT NULL, quality TEXT NOT NULL, provider TEXT NOT NULL, signal TEXT NOT NULL,
            valid_from_s REAL NOT NULL, valid_until_s REAL NOT NULL, detail TEXT NOT NULL
        );
INSERT INTO "factors" VALUES(1790001001.0,NULL,'DE',344.14,'lifecycle','static','test','average',-9e999,9e999,'2024');
CREATE TABLE intervals (
            run INTEGER NOT NULL, start_s INTEGER NOT NULL, span_s INTEGER NOT NULL, device INTEGER NOT NULL,
            label INTEGER NOT NULL, energy_j REAL NOT NULL, idle_j REAL NOT NULL, measured_s REAL NOT NULL,
            PRIMARY KEY (run, start_s, span_s, device, label)
        ) WITHOUT ROWID;
INSERT INTO "intervals" VALUES(0,1790001010,10,2,3,1.07327414004372349149e+03,0.0,3.0);
INSERT INTO "intervals" VALUES(1,1790001000,10,2,2,1.71800094296857241713e+03,0.0,9.0);
INSERT INTO "intervals" VALUES(1,1790001010,10,2,2,5.64534481735904591914e+02,0.0,2.0);
INSERT INTO "intervals" VALUES(2,1790001000,10,1,1,2.22057013332593851362e+03,0.0,9.0);
INSERT INTO "intervals" VALUES(2,1790001000,10,3,1,1.32996565241725966184e+03,0.0,9.0);
INSERT INTO "intervals" VALUES(2,1790001010,10,1,1,8.59325990632337834498e+02,0.0,5.0);
INSERT INTO "intervals" VALUES(2,1790001010,10,3,1,1.49441969561715904996e+03,0.0,5.0);
CREATE TABLE labels (
            key INTEGER PRIMARY KEY, run INTEGER NOT NULL, zone TEXT NOT NULL, phase TEXT NOT NULL,
            method TEXT NOT NULL, share TEXT NOT NULL, recovered INTEGER NOT NULL,
            UNIQUE (run, zone, phase, method, share, recovered)
        );
INSERT INTO "labels" VALUES(1,2,'DE','train','counter','whole',0);
INSERT INTO "labels" VALUES(2,1,'DE','','counter','whole',0);
INSERT INTO "labels" VALUES(3,0,'DE','','counter','',0);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('ledger_id','l-8843fa9c2eda');
CREATE TABLE meters (
            device INTEGER PRIMARY KEY, last_at_mono_s REAL NOT NULL, last_at_wall_s REAL NOT NULL,
            counter_j REAL, integrated_j REAL, estimated_j REAL, simulated_j REAL,
            attributed_j REAL NOT NULL, unattributed_j REAL NOT NULL, pending_j REAL NOT NULL,
            unmeasured_s REAL NOT NULL, resets INTEGER NOT NULL,
            check_span_s REAL NOT NULL, check_counter_j REAL NOT NULL, check_integrated_j REAL NOT NULL,
            check_ratio REAL,
            read_mono_s REAL, read_wall_s REAL, read_energy_j REAL, read_wraps_at_j REAL, read_power_w REAL,
            read_signal TEXT, read_window_s REAL,
            bridged_j REAL NOT NULL, unvouched_s REAL NOT NULL, withheld_j REAL NOT NULL, still_j REAL NOT NULL,
            counted TEXT, still_since TEXT
        );
INSERT INTO "meters" VALUES(1,1015.0,1790001015.0,3.07989612395827634834e+03,NULL,NULL,NULL,3.07989612395827634834e+03,0.0,0.0,0.0,0,14.0,3.07989612395827634834e+03,2.92589064780275748484e+03,NULL,1015.0,1790001015.0,3.17692360939761647394e+03,NULL,2.10696106168733933829e+02,'average',1.0,0.0,0.0,0.0,0.0,'same','same');
INSERT INTO "meters" VALUES(2,1015.0,1790001015.0,3.35580956474820050051e+03,NULL,NULL,NULL,2.28253542470447700913e+03,1.07327414004372349149e+03,0.0,0.0,0,14.0,3.35580956474820050051e+03,3.75472244954637562842e+03,NULL,1015.0,1790001015.0,3.70251137267623198559e+03,NULL,1.44247817104497414678e+02,'average',1.0,0.0,0.0,0.0,0.0,'same','same');
INSERT INTO "meters" VALUES(3,1015.0,1790001015.0,2.82438534803441871181e+03,NULL,NULL,NULL,2.82438534803441871181e+03,0.0,0.0,0.0,0,14.0,2.82438534803441871181e+03,2.8833584929370040301e+03,NULL,1015.0,1790001015.0,3.14190646467623355413e+03,3.6650387592533331298e+11,2.41798708313187120204e+02,'average',1.0,0.0,0.0,0.0,0.0,'same','same');
CREATE TABLE pue (used_from_s REAL NOT NULL, used_until_s REAL, pue_ratio REAL NOT NULL);
INSERT INTO "pue" VALUES(1790001001.0,NULL,1.25);
CREATE TABLE runs (
            key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, user TEXT NOT NULL, start_wall_s REAL NOT NULL,
            end_wall_s REAL, boot TEXT NOT NULL, run TEXT NOT NULL, totals TEXT NOT NULL
        );
INSERT INTO "runs" VALUES(1,'ended','ada',1790001000.0,1790001012.0,'boot-1','{"id":"ended","name":"name of ended","start":[1000.0,1790001000.0],"resumed":null,"before_s":0.0,"end":[1012.0,1790001012.0],"holds":["GPU-b"],"user":"ada","project":"p","launcher":"","job_id":"","tags":[],"phases":[],"progress":[null,null,null,null],"memory":""}','{"energy_j":[["gpu","counter","whole",2282.535424704477]],"emissions_g":[["counter","lifecycle","static",0.27274713231173564]],"phase_j":{},"unpriced_j":0.0,"recovered_j":0.0,"held_s":11.0,"measured_s":11.0,"power_w":null,"duration_s":12.0}');
INSERT INTO "runs" VALUES(2,'alive','ada',1790001000.0,NULL,'boot-1','{"id":"alive","name":"name of alive","start":[1000.0,1790001000.0],"resumed":null,"before_s":0.0,"end":null,"holds":["GPU-a","package-0"],"user":"ada","project":"p","launcher":"","job_id":"","tags":[["k","v"]],"phases":[["train",1000.0]],"progress":[3,null,null,null],"memory":"{\"uid\": 1}"}','{"energy_j":[["gpu","counter","whole",3079.8961239582763],["cpu","counter","whole",2824.3853480344187]],"emissions_g":[["counter","lifecycle","static",0.7055206339484603]],"phase_j":{"train":5904.2814719926955},"unpriced_j":0.0,"recovered_j":0.0,"held_s":28.0,"measured_s":28.0,"power_w":452.494814481921,"duration_s":15.0}');
CREATE INDEX runs_by_start ON runs (start_wall_s);
CREATE INDEX fresh ON intervals (start_s) WHERE span_s = 10;
COMMIT;
