// Runs the script of a 3D page with a document and a WebGL context that do nothing, and acts as a user would.
const fs = require("fs"), vm = require("vm");
const script = fs.readFileSync(process.argv[2], "utf8").match(/<script>\n([\s\S]*)<\/script>/)[1];
const calls = {}, elements = {}, handlers = {};
const gl = new Proxy({}, {get: (_, key) => /^[A-Z_]+$/.test(String(key)) ? 1 : () => { calls[key] = (calls[key] || 0) + 1; return 1; }});
const element = id => elements[id] ??= {
  style: {}, value: "1", textContent: "", append() {}, setPointerCapture() {},
  addEventListener(name, act) { this[name] = act; }, getContext: () => gl,
};
const world = {
  console, atob, elements, handlers, calls, innerWidth: 800, innerHeight: 600, window: {devicePixelRatio: 1},
  addEventListener(name, act) { handlers[name] = act; },
  document: {getElementById: element, createElement: () => element(Math.random()), querySelector: element, body: element("body")},
};
vm.runInNewContext(script + `
  const at = point => { const r = cameraMatrix().rows.map(row => row.reduce((sum, v, i) => sum + v * point[i], 0)); return [r[0] / r[3], r[1] / r[3], r[3]]; };
  const [x, y, z] = eye.target, first = {centre: at([x, y, z, 1]), above: at([x, y, z + 5, 1])};
  canvas.pointermove({clientX: 400, clientY: 300, pointerId: 1});
  canvas.pointerdown({clientX: 400, clientY: 300, pointerId: 1});
  canvas.pointermove({clientX: 440, clientY: 320, pointerId: 1, buttons: 1});
  canvas.pointermove({clientX: 460, clientY: 320, pointerId: 1, buttons: 2});
  canvas.wheel({deltaY: 100, preventDefault() {}});
  const moved = at([x, y, z, 1]), before = vertices;
  elements.score.input({target: {value: "0.9"}});
  const filtered = vertices;
  handlers.keydown({key: "r"});
  console.log(JSON.stringify({first, moved, shown: before, filtered, again: at([x, y, z, 1]), points: places.length / 3, draws: calls.drawArrays}));
`, world);
