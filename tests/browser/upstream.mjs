// An upstream cache with made-up store paths, signed as Nix signs them.

import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { createServer } from "node:http";

const DIGITS = "0123456789abcdfghijklmnpqrsvwxyz";

function nix32(bytes) {
  let text = "";
  for (let n = Math.ceil((bytes.length * 8) / 5) - 1; n >= 0; n -= 1) {
    const at = n * 5, byte = Math.floor(at / 8), bit = at % 8;
    text += DIGITS[((bytes[byte] >> bit) | ((bytes[byte + 1] ?? 0) << (8 - bit))) & 31];
  }
  return text;
}

const sha256 = (bytes) => createHash("sha256").update(bytes).digest();

// A word of an archive: its length, itself, zeros up to a multiple of eight.
function word(content) {
  const bytes = Buffer.from(content), padded = Buffer.alloc(8 + Math.ceil(bytes.length / 8) * 8);
  padded.writeBigUInt64LE(BigInt(bytes.length));
  bytes.copy(padded, 8);
  return padded;
}

const archive = (content) =>
  Buffer.concat(["nix-archive-1", "(", "type", "regular", "contents", content, ")"].map(word));

function fixture(name, size, secret) {
  const nar = archive(randomBytes(size)), hash = nix32(sha256(nar));
  const base = `${nix32(sha256(name).subarray(0, 20))}-${name}`, path = `/nix/store/${base}`;
  const fingerprint = `1;${path};sha256:${hash};${nar.length};`;
  const signature = sign(null, Buffer.from(fingerprint), secret).toString("base64");
  const narinfo = [
    `StorePath: ${path}`, `URL: nar/${hash}.nar`, "Compression: none", `FileHash: sha256:${hash}`,
    `FileSize: ${nar.length}`, `NarHash: sha256:${hash}`, `NarSize: ${nar.length}`, "References: ",
    `Sig: browser-1:${signature}`, "",
  ].join("\n");
  return { narinfo: `/${base.slice(0, 32)}.narinfo`, nar: `/nar/${hash}.nar`, narinfoText: narinfo, narBytes: nar };
}

// `names` and sizes of the paths that it has. NARs are sent slowly while `pace.ms` is more than 0.
export async function upstream(paths) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const fixtures = Object.entries(paths).map(([name, size]) => fixture(name, size, privateKey));
  const files = new Map(fixtures.flatMap((made) => [[made.narinfo, made.narinfoText], [made.nar, made.narBytes]]));
  const pace = { ms: 0 };
  const server = createServer(async (request, response) => {
    const file = files.get(request.url);
    if (request.url === "/nix-cache-info") return response.end("StoreDir: /nix/store\nPriority: 40\n");
    if (file === undefined) return response.writeHead(404).end();
    response.writeHead(200, { "Content-Length": file.length });
    if (request.method === "HEAD") return response.end();
    const half = Math.floor(file.length / 2);
    response.write(file.slice(0, half));
    if (pace.ms > 0 && request.url.startsWith("/nar/")) await new Promise((over) => setTimeout(over, pace.ms));
    return response.end(file.slice(half));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const raw = Buffer.from(publicKey.export({ format: "jwk" }).x, "base64url").toString("base64");
  return { url: `http://127.0.0.1:${server.address().port}`, key: `browser-1:${raw}`, fixtures, pace, server };
}
