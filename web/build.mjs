// Builds app/api/dashboard/assets with the client libraries into app/api/dashboard/static: files whose names carry a
// digest of what is in them, and manifest.json, which says what each is called.

import { build } from "esbuild";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const assets = join(root, "app/api/dashboard/assets");
const built = join(root, "app/api/dashboard/static");

await rm(built, { recursive: true, force: true });
await mkdir(built, { recursive: true });
const { metafile } = await build({
  entryPoints: ["dashboard.js", "dashboard.css", "icon.svg"].map((name) => join(assets, name)),
  nodePaths: [join(root, "web/node_modules")],
  outdir: built,
  bundle: true,
  splitting: true,
  format: "esm",
  minify: true,
  target: ["es2022", "chrome123", "firefox121", "safari17.5"],
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  loader: { ".svg": "copy" },
  legalComments: "linked",
  metafile: true,
  logLevel: "warning",
});

const manifest = {};
for (const [output, { entryPoint }] of Object.entries(metafile.outputs)) {
  if (entryPoint) manifest[basename(entryPoint)] = relative(built, join(process.cwd(), output));
}
// Written last and at once: where it is, everything is.
await writeFile(join(built, "manifest.json.new"), JSON.stringify(manifest, null, 2));
await rename(join(built, "manifest.json.new"), join(built, "manifest.json"));
