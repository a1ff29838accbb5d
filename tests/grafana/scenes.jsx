// Loads a classic Grafana dashboard JSON (/dash.json), evaluates its variables, queries the real Prometheus
// through /prom, and draws the panels with Grafana's own libraries. For tests, state is left on `window`:
//   __panels  title -> {type, state, error, from, series, points}      __exprs  every expression sent
//   __spans   name of an annotation -> titles of its regions
//   __root    the scene, to change variables or the time range from the test
import { useLayoutEffect } from 'react';
import { createRoot } from 'react-dom/client';
import { from, of } from 'rxjs';
import { catchError, map, startWith } from 'rxjs/operators';
import * as D from '@grafana/data';
import * as U from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import * as R from '@grafana/runtime';
import * as S from '@grafana/scenes';
import { BrowserRouter } from 'rr6';

const WIDTH_PX = 1600;
const asked = new URLSearchParams(location.search);
// Scrape interval of the Prometheus under test: smallest step, and the base of $__rate_interval.
const SCRAPE_S = Number(asked.get('scrape')) || 1;

let root; // the scene; set at the end, used by the data source to interpolate variables

// ---------------------------------------------------------------------------------------------------------------------
// What core Grafana registers at start, and an embedding page must register itself.

const property = (id, process, extra = {}) => ({
  id,
  path: id,
  name: id,
  description: '',
  editor: () => null,
  override: () => null,
  process,
  shouldApply: () => true,
  settings: {},
  category: ['Standard options'],
  ...extra,
});

D.standardFieldConfigEditorRegistry.setInit(() => [
  property('unit', D.unitOverrideProcessor),
  property('min', D.numberOverrideProcessor),
  property('max', D.numberOverrideProcessor),
  property('decimals', D.numberOverrideProcessor),
  property('displayName', D.displayNameOverrideProcessor),
  property('noValue', D.identityOverrideProcessor),
  property('thresholds', D.thresholdsOverrideProcessor, {
    defaultValue: {
      mode: 'absolute',
      steps: [
        { value: -Infinity, color: 'green' },
        { value: 80, color: 'red' },
      ],
    },
  }),
  property('mappings', D.valueMappingsOverrideProcessor, { defaultValue: [] }),
  property('links', D.dataLinksOverrideProcessor),
  property('color', D.identityOverrideProcessor, { defaultValue: { mode: 'thresholds' } }),
]);
D.standardEditorsRegistry.setInit(() => []);
D.standardTransformersRegistry.setInit(() =>
  // de-duplicated by id; in v13 `transformation` is a function that returns a promise
  [...new Map(Object.values(D.standardTransformers).map((t) => [t.id, t])).values()].map((t) => ({
    id: t.id,
    name: t.name,
    transformation: () => Promise.resolve(t),
    editor: () => null,
    aliasIds: [],
  })),
);

// ---------------------------------------------------------------------------------------------------------------------
// The data source: query, query_range and label_values() against the HTTP API.

const number = (text) =>
  text === 'NaN' ? NaN : text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : parseFloat(text);
const asRegex = (v) => (Array.isArray(v) ? (v.length === 1 ? v[0] : '(' + v.join('|') + ')') : v);

// Grafana names the value of a table `Value`, or `Value #A` and so on where several queries have an answer.
function tableFrame(refId, result, alone) {
  const labels = [...new Set(result.flatMap((s) => Object.keys(s.metric)))];
  return D.toDataFrame({
    refId,
    fields: [
      { name: 'Time', type: 'time', values: result.map((s) => s.value[0] * 1000) },
      ...labels.map((l) => ({ name: l, type: 'string', values: result.map((s) => s.metric[l] ?? '') })),
      { name: alone ? 'Value' : `Value #${refId}`, type: 'number', values: result.map((s) => number(s.value[1])) },
    ],
  });
}

function seriesFrame(target, series) {
  const { __name__: name, ...labels } = series.metric;
  const legend =
    target.legendFormat && target.legendFormat !== '__auto'
      ? legendOf(target.legendFormat, series.metric)
      : null;
  const points = series.values || [series.value];
  return D.toDataFrame({
    refId: target.refId,
    name: legend || undefined,
    fields: [
      { name: 'Time', type: 'time', values: points.map((p) => p[0] * 1000) },
      {
        name: name || 'Value',
        type: 'number',
        labels,
        config: legend ? { displayNameFromDS: legend } : {},
        values: points.map((p) => number(p[1])),
      },
    ],
  });
}

const regions = new Map(); // name of an annotation -> what it shades, in ms since 1970
const plots = new Set(); // charts to draw anew when that comes after their lines

// Samples above 0 that are no further apart than the step are one region, as Grafana joins them.
function processEvents(annotation, frames) {
  const events = [];
  for (const frame of frames) {
    const [times, values] = frame.fields.map((field) => field.values);
    const reach_ms = D.rangeUtil.intervalToMs(annotation.step || '60s') + 1;
    let open = null;
    times.forEach((time, i) => {
      if (!(values[i] > 0)) return;
      if (open && time - open.timeEnd <= Math.max(reach_ms, frame.meta?.custom?.step_ms || 0)) open.timeEnd = time;
      else {
        open = { time, timeEnd: time, isRegion: true, title: legendOf(annotation.titleFormat, frame.fields[1].labels) };
        events.push(open);
      }
    });
  }
  window.__spans = { ...window.__spans, [annotation.name]: [...new Set(events.map((event) => event.title))] };
  regions.set(annotation.name, events);
  for (const plot of plots) plot.redraw(false);
  return of(events.map((event) => ({ ...event, source: annotation, color: annotation.iconColor })));
}

const legendOf = (format, labels) => format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '');

class PrometheusApi extends D.DataSourceApi {
  constructor() {
    super({ id: 1, uid: 'prom', type: 'prometheus', name: 'prom', meta: { id: 'prometheus' }, jsonData: {} });
    this.interval = SCRAPE_S + 's';
    this.annotations = { prepareAnnotation: (a) => ({ ...a, target: { expr: a.expr, step: a.step } }), processEvents };
  }

  async post(path, form) {
    const response = await fetch('/prom/api/v1/' + path, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams(form),
    });
    const body = await response.json();
    if (body.status !== 'success') throw new Error(body.error);
    return body.data;
  }

  query(request) {
    return from(this.frames(request));
  }

  async frames(request) {
    const data = [];
    const tables = [];
    const asked_s = D.rangeUtil.intervalToSeconds(request.targets[0]?.step || '0s');
    const step = Math.max(SCRAPE_S, asked_s, Math.round((request.intervalMs || SCRAPE_S * 1000) / 1000));
    const start = request.range.from.valueOf() / 1000;
    const end = request.range.to.valueOf() / 1000;
    const scoped = {
      ...request.scopedVars,
      __interval: { text: '', value: step + 's' },
      __rate_interval: { text: '', value: Math.max(step + SCRAPE_S, 4 * SCRAPE_S) + 's' },
      __range: { text: '', value: Math.max(1, Math.round(end - start)) + 's' },
    };
    for (const target of request.targets) {
      const expr = S.sceneGraph.interpolate(root, target.expr, scoped, asRegex);
      window.__exprs = [...(window.__exprs || []), expr];
      const instant = target.instant && !target.range;
      const { result } = instant
        ? await this.post('query', { query: expr, time: end })
        : await this.post('query_range', { query: expr, start, end, step });
      if (target.format === 'table') {
        if (result.length) tables.push([target.refId, result]);
      } else
        for (const series of result) {
          const frame = seriesFrame(target, series);
          data.push({ ...frame, meta: { ...frame.meta, custom: { step_ms: step * 1000 } } });
        }
    }
    for (const [refId, result] of tables) data.push(tableFrame(refId, result, tables.length === 1));
    return { data, state: 'Done' };
  }

  async metricFindQuery(query) {
    const text = typeof query === 'string' ? query : query?.query || '';
    const filled = S.sceneGraph.interpolate(root, text, {}, (v) => (Array.isArray(v) ? v.join('|') : v));
    const match = filled.match(/^label_values\((?:(.*),\s*)?(\w+)\)$/);
    if (!match) return [];
    const [, selector, label] = match;
    const response = await fetch(
      '/prom/api/v1/label/' + label + '/values' + (selector ? '?match[]=' + encodeURIComponent(selector) : ''),
    );
    return (await response.json()).data.map((value) => ({ text: value, value }));
  }

  testDatasource() {
    return Promise.resolve({ status: 'success' });
  }
}

const prometheus = new PrometheusApi();
const settings = {
  uid: 'prom',
  type: 'prometheus',
  name: 'prom',
  meta: { id: 'prometheus', info: { logos: {} } },
  jsonData: {},
};
R.setDataSourceSrv({
  get: async () => prometheus,
  getInstanceSettings: () => settings,
  getList: () => [settings],
  reload() {},
  registerRuntimeDataSource() {},
});
R.setAppEvents(new D.EventBusSrv()); // without it TimeSeries crashes
R.setTemplateSrv({ getVariables: () => [], replace: (s) => s, containsTemplate: () => false, updateTimeRange() {} });
R.setRunRequest((source, request) => {
  const answer = (state, series, extra) => ({ state, series, timeRange: request.range, request, ...extra });
  return source.query(request).pipe(
    map((packet) => answer('Done', packet.data)),
    catchError((error) => of(answer('Error', [], { errors: [{ message: String(error.message || error) }] }))),
    startWith(answer('Loading', [])),
  );
});

// ---------------------------------------------------------------------------------------------------------------------
// Panels: thin wrappers, since the panel plugins themselves are not in the libraries.

function mark(type, props) {
  window.__panels = {
    ...(window.__panels || {}),
    [props.title]: {
      type,
      state: props.data.state,
      error: props.data.errors?.[0]?.message,
      from: props.timeRange.raw.from,
      series: props.data.series.length,
      points: props.data.series.reduce((sum, frame) => sum + frame.length, 0),
    },
  };
}

const useValues = (props, sparkline) =>
  D.getFieldDisplayValues({
    fieldConfig: props.fieldConfig,
    reduceOptions: { calcs: ['lastNotNull'], values: false, fields: '', ...props.options.reduceOptions },
    replaceVariables: props.replaceVariables,
    theme: U.useTheme2(),
    data: props.data.series,
    sparkline,
    timeZone: props.timeZone,
  });

function TimeSeries(props) {
  mark('timeseries', props);
  if (!props.data.series.length) return null;
  return (
    <U.TimeSeries
      frames={props.data.series}
      structureRev={props.data.structureRev}
      width={props.width}
      height={props.height}
      timeRange={props.timeRange}
      timeZone={props.timeZone}
      legend={{ displayMode: 'list', placement: 'bottom', calcs: [], showLegend: true, ...props.options.legend }}
      options={props.options}
    >
      {(config) => <Spans config={config} />}
    </U.TimeSeries>
  );
}

// The shading of annotations; Grafana's own plugin for it is not in the libraries.
function Spans({ config }) {
  useLayoutEffect(() => {
    config.addHook('draw', (u) => {
      plots.add(u);
      const { left, top, width, height } = u.bbox;
      const [from, to] = ['min', 'max'].map((edge) => u.scales.x[edge]);
      for (const { time, timeEnd } of [...regions.values()].flat()) {
        if (timeEnd < from || time > to) continue;
        const [begin, end] = [Math.max(time, from), Math.min(timeEnd, to)].map((at) => u.valToPos(at, 'x', true));
        u.ctx.fillStyle = 'rgba(87, 148, 242, 0.08)';
        u.ctx.fillRect(begin, top, end - begin, height);
        u.ctx.fillStyle = 'rgba(87, 148, 242, 0.9)';
        u.ctx.fillRect(begin, top + height, end - begin, 3);
      }
    });
    config.addHook('destroy', (u) => plots.delete(u));
  }, [config]);
  return null;
}

function Stat(props) {
  mark('stat', props);
  const theme = U.useTheme2();
  const values = useValues(props, true);
  const draw = ({ value, width, height, count }) => {
    if (value.sparkline) value.sparkline.timeRange = props.timeRange;
    return (
      <U.BigValue
        value={value.display}
        count={count}
        sparkline={value.sparkline}
        colorMode={props.options.colorMode || 'value'}
        graphMode={props.options.graphMode || 'area'}
        justifyMode="auto"
        textMode={props.options.textMode || 'auto'}
        disableWideLayout={props.options.wideLayout === false}
        text={props.options.text}
        width={width}
        height={height}
        theme={theme}
      />
    );
  };
  return (
    <U.VizRepeater
      getValues={() => values}
      renderValue={draw}
      source={props.data}
      renderCounter={props.renderCounter}
      width={props.width}
      height={props.height}
      autoGrid
      orientation="auto"
    />
  );
}

function Bars(props) {
  mark('bargauge', props);
  const theme = U.useTheme2();
  const values = useValues(props, false);
  const draw = ({ value, width, height, orientation, alignmentFactors }) => (
    <U.BarGauge
      value={value.display}
      width={width}
      height={height}
      orientation={orientation}
      field={value.field}
      theme={theme}
      itemSpacing={10}
      text={props.options.text}
      namePlacement={props.options.namePlacement}
      alignmentFactors={alignmentFactors}
      displayMode={props.options.displayMode || 'gradient'}
      showUnfilled
    />
  );
  return (
    <U.VizRepeater
      getValues={() => values}
      getAlignmentFactors={D.getDisplayValueAlignmentFactors}
      renderValue={draw}
      source={props.data}
      renderCounter={props.renderCounter}
      width={props.width}
      height={props.height}
      minVizHeight={props.options.minVizHeight ?? 16} // the panel's own: where there are many, it scrolls
      maxVizHeight={props.options.maxVizHeight ?? 300}
      itemSpacing={10}
      orientation="horizontal"
    />
  );
}

function Table(props) {
  mark('table', props);
  D.cacheFieldDisplayNames(props.data.series);
  if (!props.data.series[0]) return null;
  return (
    <TableNG
      data={props.data.series[0]}
      width={props.width}
      height={props.height}
      timeRange={props.timeRange}
      fieldConfig={props.fieldConfig}
      getActions={() => []}
      sortBy={[]}
      cellHeight="sm"
      structureRev={1}
    />
  );
}

// Custom field options must be declared, or the field config of the dashboard loses them.
const CUSTOM_OPTIONS =
  `drawStyle lineInterpolation lineWidth fillOpacity gradientMode barAlignment lineStyle spanNulls showPoints pointSize
   stacking axisPlacement axisLabel axisSoftMin axisSoftMax axisGridShow axisColorMode scaleDistribution hideFrom
   thresholdsStyle align cellOptions width`.split(/\s+/);

function plugin(id, component) {
  const panel = new D.PanelPlugin(component);
  panel.meta = { id, name: id, info: { version: '1', logos: {} }, skipDataQuery: false };
  panel.useFieldConfig({
    useCustomConfig: (builder) => {
      for (const option of CUSTOM_OPTIONS)
        builder.addCustomEditor({
          id: option,
          path: option,
          name: option,
          editor: () => null,
          override: () => null,
          process: D.identityOverrideProcessor,
          shouldApply: () => true,
        });
    },
    standardOptions: {
      color: { defaultValue: { mode: id === 'timeseries' ? 'palette-classic' : 'thresholds' }, settings: {} },
    },
  });
  return panel;
}

const plugins = {
  timeseries: plugin('timeseries', TimeSeries),
  stat: plugin('stat', Stat),
  bargauge: plugin('bargauge', Bars),
  table: plugin('table', Table),
};
R.setPluginImportUtils({ importPanelPlugin: async (id) => plugins[id], getPanelPluginFromCache: (id) => plugins[id] });
R.config.bootData = R.config.bootData || {};
R.config.theme2 = D.createTheme({ colors: { mode: 'dark' } });

// ---------------------------------------------------------------------------------------------------------------------
// Dashboard JSON -> scene.

const PROMETHEUS = { uid: 'prom', type: 'prometheus' };

function variable(v) {
  if (v.type === 'datasource')
    return new S.DataSourceVariable({ name: v.name, label: v.label, pluginId: v.query, value: 'prom', text: 'prom' });
  return new S.QueryVariable({
    name: v.name,
    label: v.label,
    datasource: PROMETHEUS,
    query: v.query,
    isMulti: v.multi,
    includeAll: v.includeAll,
    allValue: v.allValue,
    defaultToAll: v.includeAll,
    value: v.includeAll ? '$__all' : undefined,
    text: v.includeAll ? 'All' : undefined,
    refresh: v.refresh,
  });
}

// A panel's own time, such as the month so far: the engine has the base of it, Grafana itself the rest.
class PanelTime extends S.SceneTimeRangeTransformerBase {
  constructor(timeFrom) {
    super({ timeFrom, from: 'now-1h', to: 'now', value: D.getDefaultTimeRange() });
  }

  ancestorTimeRangeChanged(board) {
    const { from, to, invalid } = D.rangeUtil.describeTextRange(this.state.timeFrom);
    if (invalid) throw new Error(`${this.state.timeFrom} is no time of a panel`);
    // Where the board's time is a fixed one, Grafana lets the panel have it.
    if (!D.rangeUtil.isRelativeTimeRange(board.value.raw))
      return this.setState({ from: board.from, to: board.to, value: board.value });
    const value = { from: D.dateMath.parse(from, false), to: D.dateMath.parse(to, true), raw: { from, to } };
    this.setState({ from, to, value });
  }
}

function gridItem(p) {
  const { x, y, w, h } = p.gridPos;
  if (p.type === 'row') return new S.SceneGridRow({ title: p.title, y, isCollapsed: p.collapsed, children: [] });
  let data = new S.SceneQueryRunner({ datasource: PROMETHEUS, queries: p.targets, maxDataPoints: p.maxDataPoints });
  if (p.transformations?.length) data = new S.SceneDataTransformer({ $data: data, transformations: p.transformations });
  return new S.SceneGridItem({
    x,
    y,
    width: w,
    height: h,
    body: new S.VizPanel({
      title: p.title,
      description: p.description,
      pluginId: p.type,
      options: p.options || {},
      fieldConfig: { defaults: {}, overrides: [], ...p.fieldConfig },
      $data: data,
      $timeRange: p.timeFrom ? new PanelTime(p.timeFrom) : undefined,
    }),
  });
}

const spans = (annotation) => annotation.enable && annotation.expr;

const layer = (annotation) =>
  new S.dataLayers.AnnotationsDataLayer({
    name: annotation.name,
    isEnabled: true,
    query: { ...annotation, datasource: PROMETHEUS },
  });

await document.fonts.load('12px Inter'); // see serve.mjs
const dashboard = await (await fetch('/dash.json')).json();
root = new S.EmbeddedScene({
  $timeRange: new S.SceneTimeRange({
    from: asked.get('from') || dashboard.time.from,
    to: dashboard.time.to,
    timeZone: 'utc',
  }),
  $variables: new S.SceneVariableSet({ variables: (dashboard.templating?.list || []).map(variable) }),
  $data: new S.SceneDataLayerSet({ layers: (dashboard.annotations?.list || []).filter(spans).map(layer) }),
  controls: [
    new S.VariableValueSelectors({}),
    new S.SceneControlsSpacer(),
    new S.SceneTimePicker({}),
    new S.SceneRefreshPicker({ refresh: '' }), // a busy machine may not be done with a board when it begins again
  ],
  body: new S.SceneGridLayout({ children: dashboard.panels.map(gridItem) }),
});
window.__root = root;
root.activate();
createRoot(document.getElementById('root')).render(
  <BrowserRouter>
    <U.ThemeContext.Provider value={R.config.theme2}>
      <U.GlobalStyles />
      <div style={{ width: WIDTH_PX, minHeight: '100vh', display: 'flex', padding: 8 }}>
        <root.Component model={root} />
      </div>
    </U.ThemeContext.Provider>
  </BrowserRouter>,
);
