"""A founder's consent that another player's proof founds his guild: signed, and checked before anything is hashed."""

from __future__ import annotations

from hashlib import sha256

from coincurve import PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_compact

from coordinator.submission.keys import SigningKey, address_of
from hashfleet.charter import Consent, Founding, consent_text
from hashfleet.errors import InvalidInput


def sign_consent(key: SigningKey, chain_id: str, founder_id: str, founding: Founding, anchor: int) -> Consent:
    """Consent to this founding, with a key of the founder. Raises InvalidInput."""
    digest = sha256(consent_text(chain_id, founder_id, founding, anchor)).digest()
    return Consent(key.address, key.public_key.hex(), key.sign(digest).hex())


def check_consent(consent: Consent, chain_id: str, founder_id: str, founding: Founding, anchor: int) -> None:
    """Raise InvalidInput unless the consent was signed by the key of its address, for this founding at this anchor.

    Whose address it is only the chain knows.
    """
    prefix = consent.address.rpartition("1")[0]
    public_key = bytes.fromhex(consent.proof_pub_key)
    try:
        if address_of(public_key, prefix) != consent.address:
            raise InvalidInput(f"the consent's proof_pub_key is not the key of its address {consent.address}")
        signature = cdata_to_der(deserialize_compact(bytes.fromhex(consent.proof_signature)))
        signed = PublicKey(public_key).verify(signature, consent_text(chain_id, founder_id, founding, anchor))
    except InvalidInput:
        raise
    except ValueError as error:  # not a point of the curve, or r or s out of range
        raise InvalidInput(f"the consent of {consent.address} holds no key or signature of secp256k1") from error
    if not signed:
        raise InvalidInput(
            f"the consent of {consent.address} is not for this founding: reactor {founding.reactor_id}, substation "
            f"{founding.entry_substation_id or '(none)'}, endpoint {founding.endpoint}, anchor {anchor}"
        )
