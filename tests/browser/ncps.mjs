// `ncps serve` in a folder of its own, and `ncps-cli` beside it: programs of one binary, which the first argument names.

import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

// Waits for lines with these texts, whose addresses it returns.
function addresses(process, texts, said) {
  return new Promise((found, failed) => {
    const known = {};
    const look = (line) => {
      said.push(line);
      for (const text of texts) {
        const addr = line.includes(`"${text}"`) && line.match(/"addr":"([^"]+)"/);
        if (addr) known[text] = `http://${addr[1]}`;
      }
      if (texts.every((text) => known[text])) found(known);
    };
    for (const output of [process.stdout, process.stderr]) createInterface({ input: output }).on("line", look);
    process.on("exit", (code) => failed(new Error(`ncps ended with ${code}:\n${said.join("\n")}`)));
  });
}

export async function ncps(program, flags) {
  const folder = mkdtempSync(join(tmpdir(), "ncps-browser-")), socket = `unix:${join(folder, "control.sock")}`;
  const standard = [
    "ncps", "serve", `--cache-data-path=${join(folder, "data")}`, `--control-addr=${socket}`,
    "--server-addr=127.0.0.1:0", "--control-http-addr=127.0.0.1:0", "--log-format=json",
  ];
  const said = [];
  const server = spawn(program, [...standard, ...flags], { env: {}, stdio: ["ignore", "pipe", "pipe"] });
  const at = await addresses(server, ["edge", "control's HTTP port"], said);
  const cli = async (...args) => {
    const ran = await promisify(execFile)(program, ["ncps-cli", `--control=${socket}`, ...args], { env: {} });
    return ran.stdout.trim();
  };
  const end = async () => {
    const ended = new Promise((over) => server.once("exit", over));
    server.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true });
  };
  const signal = (name) => server.kill(name);
  return { signal, edge: at.edge, control: at["control's HTTP port"], cli, end };
}
