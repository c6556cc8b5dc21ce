// Checks a proof with jose, given only the address of the key set: `check.mjs KEYS PROOF NONCE NUMBER`.

import assert from "node:assert/strict";
import { createRemoteJWKSet, jwtVerify } from "jose";

const [address, proof, nonce, number] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL(address));
const rules = {
  typ: "otp-proof+jwt",
  issuer: "https://otp.example.co",
  audience: "https://shop.example",
  algorithms: ["EdDSA", "ES256"],
  requiredClaims: ["exp", "iat", "jti"],
};

const { payload, protectedHeader } = await jwtVerify(proof, keys, rules);
assert.deepEqual([payload.nonce, payload.purpose, payload.phone_number], [nonce, "login", number]);
assert.equal(payload.exp - payload.iat, 300);

const [head, body, signature] = proof.split(".");
const changed = JSON.parse(Buffer.from(body, "base64url").toString());
changed.phone_number = "+573009999999";
const forged = [head, Buffer.from(JSON.stringify(changed)).toString("base64url"), signature].join(".");
const refused = [];
for (const [token, changes] of [
  [forged, {}],
  [proof, { audience: "https://other.example" }],
  [proof, { issuer: "https://other.example" }],
  [proof, { typ: "JWT" }],
  [proof, { currentDate: new Date((payload.exp + 1) * 1000) }],
]) {
  await assert.rejects(jwtVerify(token, keys, { ...rules, ...changes }), (error) => refused.push(error.code) > 0);
}
console.log(`jose: ${protectedHeader.alg} accepted; ${refused.join(", ")}`);
