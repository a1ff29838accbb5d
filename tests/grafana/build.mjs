// Bundles scenes.jsx into build/main.js (about 15 MB, 2 s).
import * as esbuild from 'esbuild';
import path from 'node:path';

// @grafana/ui wants react-router-dom v5 (through react-router-dom-v5-compat), @grafana/scenes wants v6.
// v5 is the plain dependency, v6 is installed under the alias rr6; imports made by scenes are sent there.
const routerV6ForScenes = {
  name: 'router-v6-for-scenes',
  setup(build) {
    build.onResolve({ filter: /^react-router-dom$/ }, (args) =>
      args.importer.includes('@grafana/scenes') ? { path: path.resolve('node_modules/rr6/dist/index.js') } : undefined,
    );
  },
};

const started = Date.now();
const result = await esbuild.build({
  entryPoints: ['scenes.jsx'],
  outfile: 'build/main.js',
  bundle: true,
  format: 'esm',
  jsx: 'automatic',
  plugins: [routerV6ForScenes],
  // Do not set `conditions`: that drops the `module` condition, and react-select then fails at run time
  // with "_taggedTemplateLiteral2 is not a function".
  mainFields: ['module', 'browser', 'main'],
  define: { 'process.env.NODE_ENV': '"production"', 'process.env': '{}', global: 'globalThis' },
  loader: { '.svg': 'dataurl', '.woff2': 'dataurl', '.png': 'dataurl', '.ttf': 'dataurl' },
  logLevel: 'warning',
  metafile: true,
});
for (const [file, { bytes }] of Object.entries(result.metafile.outputs)) console.log(file, bytes, 'bytes');
console.log('built in', Date.now() - started, 'ms');
