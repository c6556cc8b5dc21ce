"""Checks a proof with PyJWT, given only the address of the key set: `check.py KEYS PROOF NONCE NUMBER`."""

import base64
import hashlib
import json
import sys
import urllib.request

import jwt

AUDIENCE, ISSUER = "https://shop.example", "https://otp.example.co"


def read(keys, proof, audience=AUDIENCE, issuer=ISSUER):
    key = keys.get_signing_key_from_jwt(proof)
    options = {"require": ["exp", "iat", "jti"]}
    return jwt.decode_complete(
        proof, key, algorithms=["EdDSA", "ES256"], issuer=issuer, audience=audience, options=options
    )


def refused(of, **changes):
    try:
        read(*of, **changes)
    except jwt.PyJWTError as error:
        return type(error).__name__
    sys.exit("PyJWT accepts a proof that is none")


def thumbprint(key):
    """RFC 7638, without a library."""
    names = ["crv", "kty", "x", "y"] if key["kty"] == "EC" else ["crv", "kty", "x"]
    text = json.dumps({name: key[name] for name in names}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def main():
    address, proof, nonce, number = sys.argv[1:]
    keys = jwt.PyJWKClient(address)
    token = read(keys, proof)
    header, claims = token["header"], token["payload"]
    assert header["typ"] == "otp-proof+jwt", header
    assert claims["exp"] - claims["iat"] == 300 and len(claims["jti"]) == 22, claims
    assert (claims["nonce"], claims["purpose"], claims["phone_number"]) == (nonce, "login", number), claims
    assert "sub" not in claims and "email" not in claims and claims["request_id"], claims
    with urllib.request.urlopen(address) as answer:
        for key in json.load(answer)["keys"]:
            assert key["kid"] == thumbprint(key) and "d" not in key, key
    head, payload, signature = proof.split(".")
    forged = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged["phone_number"] = "+573009999999"
    forged = base64.urlsafe_b64encode(json.dumps(forged).encode()).rstrip(b"=").decode()
    found = [
        refused((keys, f"{head}.{forged}.{signature}")),
        refused((keys, proof), audience="https://other.example"),
        refused((keys, proof), issuer="https://other.example"),
    ]
    print(f"PyJWT {jwt.__version__}: {header['alg']} accepted; {', '.join(found)}")


main()
