// Bundles the reading page's scripts into one file that the portal serves itself, and beside it the licences of
// everything in it. Reproducible: the same sources and the same package-lock.json give the same bytes.
import { build } from "esbuild";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const into = path.resolve(here, process.argv[2] ?? "../portal/static/portal/build");

// Lines of Cornerstone that are changed. The build fails when one of them is not there any more.
const DEVICE_PIXELS = [
  "const { clientWidth, clientHeight } = canvas;",
  `const [clientWidth, clientHeight] = [canvas.clientWidth, canvas.clientHeight].map((side) =>
    Math.round(side * (window.devicePixelRatio || 1)));`,
];
const PATCHES = [
  // One style is set as an attribute, which a strict content policy refuses; set through the object model the same
  // style is allowed.
  { file: /drawingSvg\/drawTextBox\.js$/, lines: [["setAttribute('style', combinedStyle)", "style.cssText = combinedStyle"]] },
  // Drawn without WebGL, the picture has one pixel for each CSS pixel, while everything that asks where something lies
  // on it reckons in pixels of the device: on a phone the picture is blurred, and outlines, lengths and brush are off
  // by the ratio of the two. With a canvas in pixels of the device both agree.
  { file: /RenderingEngine\/BaseRenderingEngine\.js$/, lines: [DEVICE_PIXELS] },
  { file: /cpuFallback\/rendering\/resize\.js$/, lines: [DEVICE_PIXELS] },
];
const patched = {
  name: "patched",
  setup({ onLoad, onEnd }) {
    const seen = new Set();
    for (const { file, lines } of PATCHES) {
      onLoad({ filter: file }, ({ path: name }) => {
        let contents = readFileSync(name, "utf8");
        for (const [from, to] of lines) {
          if (contents.split(from).length !== 2) {
            return { errors: [{ text: `The line to be replaced is gone: ${from}` }] };
          }
          contents = contents.replace(from, to);
        }
        seen.add(file);
        return { contents };
      });
    }
    onEnd(() => ({
      errors: PATCHES.filter(({ file }) => !seen.has(file)).map(({ file }) => ({ text: `No file is called ${file} any more.` })),
    }));
  },
};

const result = await build({
  absWorkingDir: here,
  entryPoints: ["src/reading.js"],
  outdir: into,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none", // the whole texts stand in licences.txt
  metafile: true,
  logLevel: "warning",
  plugins: [patched],
  // What no part of this page calls, and what a browser or a strict content policy would refuse.
  alias: { dcmjs: "./src/no_dicom_parser.js", xmlbuilder2: "./src/no_xml_writer.js" },
});

const bundled = new Map();
for (const [name, { bytesInOutput }] of Object.values(result.metafile.outputs).flatMap((o) => Object.entries(o.inputs))) {
  const match = name.match(/^(.*node_modules\/((?:@[^/]+\/)?[^/]+))\//);
  if (match && bytesInOutput > 0) {
    bundled.set(match[2], path.resolve(here, match[1]));
  }
}
const texts = [...bundled].sort().map(([name, folder]) => {
  const facts = JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
  const author = typeof facts.author === "string" ? facts.author : facts.author?.name;
  const text = file ? readFileSync(path.join(folder, file), "utf8").trim() : `Licence: ${facts.license}. Author: ${author ?? "see the package"}.`;
  return `${name} ${facts.version}\n${"-".repeat(72)}\n${text}\n`;
});
writeFileSync(path.join(into, "licences.txt"), `${texts.join("\n\n")}`);
