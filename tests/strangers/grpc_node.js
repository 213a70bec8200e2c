// Node's @grpc/grpc-js calls the demo server.
//
// Usage: node grpc_node.js DEMO_SERVER, with @grpc/grpc-js and @grpc/proto-loader in NODE_PATH. It starts the server on a free port
// and then at a Unix socket, and makes calls of all kinds. It says each thing that it has seen.

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const readline = require("node:readline");
const { promisify } = require("node:util");

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const root = path.resolve(__dirname, "../..");

/** A deadline that no machine is too slow for. */
const soon = () => ({ deadline: Date.now() + 60_000 });

/** Returns the error of a call that must fail. */
async function failure(call) {
  try {
    await call;
  } catch (error) {
    return error;
  }
  throw new Error("the call did not fail");
}

async function unary(kv) {
  const [update, fetch] = ["rpc_update", "rpc_fetch"].map((name) => promisify(kv[name]).bind(kv));
  await update({ key: "dog", value: Buffer.from("woof") }, new grpc.Metadata(), soon());
  assert.equal((await fetch({ key: "dog" }, new grpc.Metadata(), soon())).value.toString(), "woof");
  assert.equal((await fetch({ key: "cat" }, new grpc.Metadata(), soon())).value, undefined);
  const long = Buffer.alloc(3_000_000, "x");
  await update({ key: "long", value: long }, new grpc.Metadata(), soon());
  assert.ok(long.equals((await fetch({ key: "long" }, new grpc.Metadata(), soon())).value));
}

async function errors(kv) {
  const [update, sleep] = ["rpc_update", "rpc_sleep"].map((name) => promisify(kv[name]).bind(kv));
  const refused = await failure(update({}, new grpc.Metadata(), soon()));
  assert.equal(refused.code, grpc.status.INVALID_ARGUMENT);
  assert.equal(refused.details, "a key has 1 to 256 bytes, this one has 0");
  assert.equal(refused.metadata.get("grpc-status-details-bin").length, 1);
  const late = await failure(sleep({ millis: 60_000 }, new grpc.Metadata(), { deadline: Date.now() + 50 }));
  assert.equal(late.code, grpc.status.DEADLINE_EXCEEDED);
  const long = await failure(update({ key: "k", value: Buffer.alloc(5_000_000) }, new grpc.Metadata(), soon()));
  assert.equal(long.code, grpc.status.RESOURCE_EXHAUSTED);
}

async function streams(kv) {
  const imported = new Promise((resolve, reject) => {
    const call = kv.rpc_import(new grpc.Metadata(), soon(), (error, reply) => (error ? reject(error) : resolve(reply)));
    for (let number = 0; number < 1000; number++) call.write({ key: `key${number}`, value: Buffer.from("v") });
    call.end();
  });
  assert.equal((await imported).entries, "1000");
  const session = kv.rpc_session(new grpc.Metadata(), soon());
  const befores = [];
  session.write({ key: "turn", value: Buffer.from("1") });
  for await (const answer of session) {
    befores.push(answer.before?.toString());
    if (befores.length < 3) session.write({ key: "turn", value: Buffer.from(`${befores.length + 1}`) });
    else session.end();
  }
  assert.deepEqual(befores, [undefined, "1", "2"]);
  const watch = kv.rpc_watch({ prefix: "key" }, new grpc.Metadata(), soon());
  watch.on("error", (error) => assert.equal(error.code, grpc.status.CANCELLED));
  let seen = 0;
  for await (const event of watch.iterator({ destroyOnReturn: false })) {
    assert.ok(event.key.startsWith("key"));
    if (++seen === 1000) break;
  }
  watch.cancel();
}

async function drain(kv, server) {
  const watch = kv.rpc_watch({ prefix: "dog" }, new grpc.Metadata(), soon());
  const ended = once(watch, "status");
  await once(watch, "data");
  watch.resume();
  server.kill("SIGTERM");
  const [status] = await ended;
  assert.equal(status.code, grpc.status.OK);
  const [exitCode] = server.exitCode === null ? await once(server, "exit") : [server.exitCode];
  assert.equal(exitCode, 0);
}

/** Starts the server at an address, and makes calls of all kinds. */
async function callsOfAllKinds(listen, transport) {
  const server = spawn(process.argv[2], ["--listen", listen], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const [line] = await once(readline.createInterface({ input: server.stdout }), "line");
    const address = line.replace("listening ", "").replace("tcp://", "");
    const definition = loader.loadSync("kv.proto", {
      includeDirs: [path.join(root, "proto"), path.join(root, "rpc-codegen/proto")],
      keepCase: true,
      longs: String,
    });
    const { Kv } = grpc.loadPackageDefinition(definition).demo.kv.v1;
    const kv = new Kv(address, grpc.credentials.createInsecure());
    for (const check of [unary, errors, streams]) {
      await check(kv);
      console.log(`grpc-js over ${transport}: ${check.name}: as it should be`);
    }
    await drain(kv, server);
    console.log(`grpc-js over ${transport}: a drain ends a stream well`);
    kv.close();
  } finally {
    server.kill("SIGKILL");
  }
}

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "grpc-node-"));
  try {
    await callsOfAllKinds("tcp://127.0.0.1:0", "TCP");
    await callsOfAllKinds(`unix:${folder}/kv.sock`, "a Unix socket");
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
