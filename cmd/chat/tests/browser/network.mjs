// A NATS server and chat nodes of this test's own, and waiting for conditions.

import { spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";

const PATIENCE_MS = 30000;

export function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Waits until the condition holds; what it throws on the way is not yet. */
export async function until(what, condition) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    let why = "";
    try {
      if (await condition()) {
        console.log(`ok  ${what}`);
        return;
      }
    } catch (error) {
      why = `: ${error.message}`;
    }
    if (Date.now() > end) throw new Error(`not within ${PATIENCE_MS} ms: ${what}${why}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

/** Also when a test fails or is interrupted nothing stays behind. */
const networks = new Set();
process.once("exit", () => networks.forEach((network) => network.vanish()));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));

export class Network {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "waypost-chat-"));
  #children = new Map();
  #chat;
  #server;
  #port;

  static async start(chat, server) {
    const network = new Network();
    networks.add(network);
    network.#chat = chat;
    network.#server = server;
    network.#port = await freePort();
    network.startServer();
    return network;
  }

  #spawn(name, program, args) {
    // Standard input stays open: the end of it is for another test.
    const child = spawn(program, args, { cwd: this.folder, stdio: ["pipe", "ignore", "inherit"] });
    child.ended = new Promise((resolve) => child.once("exit", resolve));
    this.#children.set(name, child);
  }

  startServer() {
    this.#spawn("nats", this.#server, ["-a", "127.0.0.1", "-p", String(this.#port), "-l", path.join(this.folder, "nats.log")]);
  }

  /** Starts a node; gives its page's port. */
  async node(name, { port, more = [] } = {}) {
    port ??= await freePort();
    this.#spawn(name, this.#chat, ["--node-id", name, "--nats", `127.0.0.1:${this.#port}`, "--channel", "harbour", "--web", String(port), ...more]);
    return port;
  }

  /** Has a node say these on its terminal. */
  say(name, lines) {
    this.#children.get(name).stdin.write(lines.map((line) => `${line}\n`).join(""));
  }

  async kill(name, signal = "SIGKILL") {
    const child = this.#children.get(name);
    child.kill(signal);
    await child.ended;
    this.#children.delete(name);
  }

  async end() {
    for (const name of [...this.#children.keys()]) await this.kill(name);
    this.vanish();
  }

  vanish() {
    for (const child of this.#children.values()) child.kill("SIGKILL");
    fs.rmSync(this.folder, { recursive: true, force: true });
    networks.delete(this);
  }
}
