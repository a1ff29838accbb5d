// Serves the bundle, one dashboard JSON as /dash.json, and a same-origin proxy /prom/... -> Prometheus.
// usage: node serve.mjs [port] [prometheus-url] [dashboard.json] [bundle-dir]
import http from 'node:http';
import fs from 'node:fs';
import path from 'node:path';

const BOARD = '../../dashboards/json/trainwatt-node.json';
const [, , port = '18080', prometheus = 'http://127.0.0.1:9090', dashboard = BOARD, bundle = 'build'] = process.argv;
const TYPES = {
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.html': 'text/html',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
};

function page() {
  const css = fs.existsSync(path.join(bundle, 'main.css')) ? '<link rel=stylesheet href=/main.css>' : '';
  return (
    `<!doctype html><meta charset=utf-8>${css}` +
    // Grafana measures text in Inter and nothing else: without it axis labels would be measured in another font than drawn.
    "<style>@font-face{font-family:Inter;src:local('Inter'),local('Liberation Sans'),local('DejaVu Sans')}</style>" +
    '<style>body{background:#111217;color:#ccccdc;font-family:Inter,Liberation Sans,sans-serif;margin:0}</style>' +
    '<div id=root></div><script type=module src=/main.js></script>'
  );
}

function sendFile(response, file) {
  if (!fs.existsSync(file) || !fs.statSync(file).isFile()) return false;
  response.writeHead(200, { 'content-type': TYPES[path.extname(file)] || 'application/octet-stream' });
  fs.createReadStream(file).pipe(response);
  return true;
}

function proxy(request, response, url) {
  const target = new URL(prometheus + url.pathname.slice('/prom'.length) + url.search);
  const onward = http.request(
    target,
    { method: request.method, headers: { ...request.headers, host: target.host } },
    (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    },
  );
  onward.on('error', (error) => {
    response.writeHead(502);
    response.end(String(error));
  });
  request.pipe(onward);
}

http
  .createServer((request, response) => {
    const url = new URL(request.url, 'http://localhost');
    if (url.pathname.startsWith('/prom/')) return proxy(request, response, url);
    if (url.pathname === '/dash.json') {
      response.writeHead(200, { 'content-type': 'application/json' });
      return response.end(fs.readFileSync(dashboard));
    }
    if (url.pathname === '/') {
      response.writeHead(200, { 'content-type': 'text/html' });
      return response.end(page());
    }
    if (sendFile(response, path.join(bundle, path.normalize(url.pathname)))) return;
    // Icons: Grafana serves them under /public/build/, @grafana/ui ships them under dist/public/.
    if (url.pathname.startsWith('/public/')) {
      const icon = 'node_modules/@grafana/ui/dist/public' + url.pathname.slice('/public'.length).replace('/build/', '/');
      if (sendFile(response, icon)) return;
    }
    response.writeHead(404);
    response.end('not found: ' + url.pathname);
  })
  .listen(+port, '127.0.0.1');
