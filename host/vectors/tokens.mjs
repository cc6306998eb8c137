// Writes tokens.json: what docs/FORMAT.md, "Tokens", says, written a second time in another language. See README.md.
import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import { Oprf, VOPRFServer, derivePrivateKey } from "@cloudflare/voprf-ts";
import { CryptoNoble } from "@cloudflare/voprf-ts/crypto-noble";

Oprf.Crypto = CryptoNoble;
const suite = Oprf.Suite.RISTRETTO255_SHA512;
const domain = "care-data";
const epoch = 1;
const sealedKey = Buffer.alloc(32, 7);
const seed = Buffer.alloc(32, 9);

const epochBytes = Buffer.alloc(4);
epochBytes.writeUInt32BE(epoch);
const zero = Buffer.from([0]);
const joined = (...parts) => Buffer.concat(parts.map((part) => Buffer.from(part)));
const input = (kind, ...parts) =>
  joined("lockgate token v1", zero, domain, zero, epochBytes, zero, kind, zero, ...parts.flatMap((part) => [part, zero]));

function nhsNumber(text) {
  const digits = (text ?? "").replace(/[ -]/g, "");
  if (!/^[0-9]{10}$/.test(digits) || /^(.)\1*$/.test(digits)) return null;
  const sum = [...digits].slice(0, 9).reduce((sum, digit, place) => sum + Number(digit) * (10 - place), 0);
  const check = (11 - (sum % 11)) % 11;
  return check === Number(digits[9]) ? digits : null;
}

function birthDate(text) {
  return text && Number(text.slice(0, 4)) >= 1895 ? text : null;
}

function sex(text) {
  return text && text !== "unknown" ? text : null;
}

function postcode(text) {
  const code = (text ?? "").replaceAll(" ", "").toUpperCase();
  return /^[A-Z]{1,2}[0-9][0-9A-Z]?[0-9][A-Z]{2}$/.test(code) && !code.startsWith("ZZ99") ? code : null;
}

const people = [
  { "nhs-number": "943 476 5919", "birth-date": "1970-03-19", sex: "female", postcode: "SW1A 2AA" },
  { "nhs-number": "943-476-5919", "birth-date": "1970-03-19", sex: "female", postcode: "sw1a2aa" },
  { "nhs-number": "9434765919", "birth-date": "1970-03-19", sex: "male", postcode: "M1 1AE" },
  { "nhs-number": "4010232137", "birth-date": "1950-01-01", sex: "indeterminate", postcode: "DN55 1PT" },
  { "nhs-number": "9990000018", "birth-date": "1895-01-01", sex: "male", postcode: "W1A 1HQ" },
  { "nhs-number": "9990000018", "birth-date": "1894-12-31", sex: "male", postcode: "EC1A 1BB" },
  { "nhs-number": "9434765918", "birth-date": "1970-03-19", sex: "female", postcode: "ZZ99 3VZ" },
  { "nhs-number": "1111111111", "birth-date": "1970-03-19", sex: "unknown", postcode: "B33 8TH" },
  { "nhs-number": null, "birth-date": null, sex: null, postcode: null },
  { "nhs-number": "943476591X", "birth-date": "2024-02-29", sex: "female", postcode: "SW1A-2AA" },
  { "nhs-number": "", "birth-date": "2024-02-29", sex: "female", postcode: "SWA 2AA" },
  { "nhs-number": "4010232137", "birth-date": null, sex: "female", postcode: " cr2  6xh " },
];

const info = joined("lockgate token key v1", zero, domain, zero, epochBytes);
const server = new VOPRFServer(suite, await derivePrivateKey(Oprf.Mode.VOPRF, suite, seed, info));
const hex = (bytes) => Buffer.from(bytes).toString("hex");

async function token(bytes) {
  if (bytes === null) return null;
  return {
    input: hex(bytes),
    "sealed-key": hex(createHmac("sha256", sealedKey).update(bytes).digest().subarray(0, 16)),
    oprf: hex((await server.evaluate(bytes)).subarray(0, 16)),
  };
}

const cases = [];
for (const given of people) {
  const number = nhsNumber(given["nhs-number"]);
  const [birth, gender, code] = [birthDate(given["birth-date"]), sex(given.sex), postcode(given.postcode)];
  const all = (kind, ...parts) => (parts.includes(null) ? null : input(kind, ...parts));
  cases.push({
    given,
    patient: await token(all("patient", number)),
    "nhs-number": await token(all("nhs-number", number)),
    "nhs-number+birth-date+sex": await token(all("nhs-number+birth-date+sex", number, birth, gender)),
    "birth-date+sex+postcode": await token(all("birth-date+sex+postcode", birth, gender, code)),
  });
}
const document = { domain, epoch, "sealed-key": hex(sealedKey), "oprf-seed": hex(seed), "oprf-key-info": hex(info), cases };
writeFileSync(process.argv[2] ?? "tokens.json", `${JSON.stringify(document, null, 1)}\n`);
