// Holds dashboards against Grafana's published types: `node check.mjs <folder with the packages> board.json…`.
// Prints what the compiler says; exits 1 when it says anything.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import path from "node:path";

const [packages, ...boards] = process.argv.slice(2).map((name) => path.resolve(name));
const ts = createRequire(path.join(packages, "package.json"))("typescript");

// The files exist in memory only, beside the packages, so that the compiler finds them.
const files = new Map([[path.join(packages, "board.ts"), readFileSync(new URL("board.ts", import.meta.url), "utf8")]]);
for (const board of boards) {
  const name = path.join(packages, `${path.basename(board, ".json")}.check.ts`);
  files.set(name, `import type { Board } from "./board";\nexport const board: Board = ${readFileSync(board, "utf8")};\n`);
}
const options = {
  strict: true,
  noEmit: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  types: [],
  // The packages' own types are not what is judged.
  skipLibCheck: true,
};
const host = ts.createCompilerHost(options);
const { readFile, fileExists } = host;
host.readFile = (name) => files.get(path.resolve(name)) ?? readFile.call(host, name);
host.fileExists = (name) => files.has(path.resolve(name)) || fileExists.call(host, name);
const { getSourceFile } = host;
host.getSourceFile = (name, language, ...rest) => {
  const text = files.get(path.resolve(name));
  return text === undefined
    ? getSourceFile.call(host, name, language, ...rest)
    : ts.createSourceFile(name, text, language);
};
const program = ts.createProgram([...files.keys()], options, host);
const complaints = ts.getPreEmitDiagnostics(program);
if (complaints.length > 0) {
  process.stdout.write(
    ts.formatDiagnostics(complaints, {
      getCanonicalFileName: (name) => name,
      getCurrentDirectory: () => packages,
      getNewLine: () => "\n",
    }),
  );
  process.exit(1);
}
