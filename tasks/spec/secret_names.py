"""The one list of names whose values are credentials: of fields, variables, headers, parameters."""

import re
from urllib.parse import unquote_plus

_WORDS = (
    *("password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "temp auth"),
    *("secret key", "api key", "private key", "account key", "shared key", "storage key"),
    *("auth key", "user key", "signing key", "encryption key"),
    *("access key", "access key id", "shared access signature", "x amz (?:signature|credential)"),
    *("authorization", "set cookie", "cookie"),
)
"""What such a name ends in, wherever it stands; a blank is any separator or none."""

_IN_ADDRESSES = (
    # short words that mean a credential in an address only; se to sktid are Azure's signature
    *("key", "sig", "auth", "pass", "pw", "jwt", "bearer", "policy", "key pair id", "hmac", "sas"),
    # personal access tokens, one-time passwords, tickets of a single sign-on, Akamai's tokens
    *("pat", "psw", "otp", "ticket", "hdnea", "hdnts"),
    *("google access id", "sid", "code", "rlkey", "se", "sp", "sv", "sr", "skoid", "sktid"),
    r"[\w.-]*(?:signature|credentials?|session(?:_?id)?|[-_.]key)",
    r"x-(?:amz|goog|ms)-[\w-]+",
)
"""Further whole names that mean one in the query or fragment of an address."""


def _any_of(words: tuple[str, ...]) -> str:
    return "|".join(word.replace(" ", "[-_.]?") for word in words)


_ENDS_SO = re.compile(rf"(?i)(?:{_any_of(_WORDS)})\Z")
_IS_SO = re.compile(rf"(?i)(?:{_any_of(_IN_ADDRESSES)})\Z")
# "tokenizers" is another word; a number or another word may follow: API_TOKEN_2, DB_PASSWORD_OLD
_HAS_SO = re.compile(rf"(?i)(?:{_any_of(_WORDS)})s?(?:[\d_.-]|\Z)")
_PLACES = re.compile(r"(?i)(?:_(?:FILE|PATH|URL|URI|NAME)|\A(?:OLD)?PWD)\Z")
_LONGEST = 100


def is_secret_name(name: str, *, in_address: bool = False) -> bool:
    """Return whether what bears a name is a credential.

    Parameters
    ----------
    name : str
        Of a field, a header, or a parameter, which may be quoted for an address, also twice.
    in_address : bool
        Whether it is a parameter of an address, where short words mean one as well.
    """
    # what it ends in decides, and a name of megabytes need not be searched
    plain = name[-_LONGEST:]
    for _ in range(3 if "%" in plain else 0):
        plain = unquote_plus(plain)
    # PHP's and Rails' way of a list: password[]
    plain = re.sub(r"\[[^\[\]]*\]\Z", "", plain.strip())
    return bool(_ENDS_SO.search(plain) or (in_address and _IS_SO.match(plain)))


def is_secret_variable(name: str) -> bool:
    """Return whether a variable of the environment holds a credential, and not where one is."""
    return _HAS_SO.search(name) is not None and _PLACES.search(name) is None
