// Writes voprf-ts.json: batches of random inputs, evaluated by Cloudflare's TypeScript implementation. See README.md.
import { randomBytes, randomInt } from "node:crypto";
import { writeFileSync } from "node:fs";
import { Oprf, VOPRFClient, VOPRFServer, deriveKeyPair } from "@cloudflare/voprf-ts";
import { CryptoNoble } from "@cloudflare/voprf-ts/crypto-noble";

Oprf.Crypto = CryptoNoble;
const suite = Oprf.Suite.RISTRETTO255_SHA512;
const hex = (bytes) => Buffer.from(bytes).toString("hex");

async function vector(size) {
  const seed = randomBytes(32);
  const info = randomBytes(randomInt(0, 60));
  const keys = await deriveKeyPair(Oprf.Mode.VOPRF, suite, seed, info);
  const client = new VOPRFClient(suite, keys.publicKey);
  const server = new VOPRFServer(suite, keys.privateKey);

  // The random scalars, as they are drawn.
  const blinds = [];
  client.randomBlinder = async () => {
    const blind = await client.group.randomScalar();
    blinds.push(hex(blind.serialize()));
    return blind;
  };
  let proofScalar;
  server.prover.randomScalar = async () => {
    const scalar = await server.group.randomScalar();
    proofScalar = hex(scalar.serialize());
    return scalar;
  };

  const inputs = Array.from({ length: size }, () => randomBytes(randomInt(1, 200)));
  const [state, request] = await client.blind(inputs);
  const evaluation = await server.blindEvaluate(request);
  const outputs = await client.finalize(state, evaluation);
  return {
    seed: hex(seed),
    "key-info": hex(info),
    "public-key": hex(keys.publicKey),
    inputs: inputs.map(hex),
    blinds,
    "blinded-elements": request.blinded.map((element) => hex(element.serialize())),
    "evaluation-elements": evaluation.evaluated.map((element) => hex(element.serialize())),
    proof: hex(evaluation.proof.serialize()),
    "proof-random-scalar": proofScalar,
    outputs: outputs.map(hex),
  };
}

const vectors = [];
for (let number = 0; number < Number(process.argv[3] ?? 32); number += 1) {
  vectors.push(await vector(number < 8 ? 1 : randomInt(2, 9)));
}
writeFileSync(process.argv[2] ?? "voprf-ts.json", `${JSON.stringify(vectors, null, 1)}\n`);
