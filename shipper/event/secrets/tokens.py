"""Mask tokens of services, which are recognised by how they begin.

Their shapes follow the rules of detect-secrets 1.5 and gitleaks 8. What stands in front of a token must not be a letter
or a digit: identifiers that merely contain such a shape stay.

Most begin with letters and a sign: `ghp_`, `glpat-`, `SG.`. The sign and what must follow it are searched for; the
letters in front are compared afterwards. A search for each of the beginnings takes several times as long.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator

from ..._support.lazy_pattern import LazyPattern
from .effort import Effort, estimated, matches, without

_SHORTEST = 20
_SHORT = 500  # characters; searching a text up to this length costs too little to be counted
_UNDERLINED = LazyPattern(  # not behind most capital letters: those are names of environment variables
    r"_(?:(?<=[a-z128]_)|(?<=ARS_))(?=[a-z]{0,40}[A-Z\d])(?=[\w+/=-]{10})"
)
_DASHED = LazyPattern(  # not behind a letter from a to f, as in UUIDs, except for a few beginnings
    r"-(?=\w)(?:(?<=[A-Za-z][g-zG-Z]-)|(?<=xox[abe]-)|(?<=sib-))(?=[\w-]{10})"
)
_DOTTED = LazyPattern(r"\.(?=[\w-]{16})(?<=[A-Za-z0-9]\.)")
_TILDE = LazyPattern(r"~(?<=[6Q]~)")
_SEARCHES = [("_", _UNDERLINED, 0.04), ("-", _DASHED, 0.06), (".", _DOTTED, 0.05), ("~", _TILDE, 0.05)]
_BEGINNINGS = [  # beginnings that end with the sign, and the pattern of what follows
    ("ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{30,255}"),
    ("github_pat_", r"\w{22,255}"),
    ("sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_", r"[A-Za-z0-9]{10,255}"),
    ("whsec_", r"[A-Za-z0-9+/=]{20,255}"),
    ("sntrys_ sntryu_", r"[\w+/=.-]{40,500}"),
    ("npm_", r"[A-Za-z0-9]{36}"),
    ("r8_", r"[A-Za-z0-9]{37}"),
    ("fo1_", r"[\w-]{43}"),
    ("fm2_", r"[A-Za-z0-9+/]{100,500}={0,3}"),
    ("ntn_", r"[A-Za-z0-9]{40,60}"),
    ("secret_", r"[A-Za-z0-9]{43}(?![A-Za-z0-9])"),
    ("pscale_tkn_ pscale_pw_ pscale_oauth_", r"[\w=.-]{32,64}"),
    ("pnu_", r"[A-Za-z0-9]{36}"),
    ("rdme_", r"[a-z0-9]{70}"),
    ("sgp_", r"(?:[a-fA-F0-9]{16}_|local_)?[a-fA-F0-9]{40}"),
    ("sbp_", r"[a-f0-9]{40}"),
    ("ops_", r"eyJ[A-Za-z0-9+/]{100,1000}={0,3}"),
    ("lsv2_pt_ lsv2_sk_", r"[a-f0-9]{32}_[a-f0-9]{10}"),
    ("duffel_live_ duffel_test_", r"[\w=-]{43}"),
    ("shippo_live_ shippo_test_", r"[a-fA-F0-9]{40}"),
    ("live_ test_", r"[a-f0-9]{35}(?![A-Za-z0-9])"),
    ("tfp_", r"[\w.=-]{59}"),
    ("phx_", r"[A-Za-z0-9]{40,60}"),
    ("rnd_", r"[A-Za-z0-9]{28,40}"),
    ("napi_", r"[a-z0-9]{50,80}"),
    ("re_", r"[A-Za-z0-9]{8}_[A-Za-z0-9]{24}"),
    ("sm_pat_ sm_aat_ sm_sat_", r"[A-Za-z0-9]{16}"),
    ("api_org_", r"[A-Za-z]{34}"),
    ("sk_", r"[a-f0-9]{48}"),
    ("bkua_ bkct_ bkaj_", r"[a-z0-9]{40}"),
    ("rubygems_", r"[a-f0-9]{48}"),
    ("dckr_pat_ dckr_oat_", r"[\w-]{27,32}"),
    ("dop_v1_ doo_v1_ dor_v1_", r"[a-f0-9]{64}"),
    ("shpat_ shpca_ shppa_ shpss_", r"[a-fA-F0-9]{32}"),
    ("hf_", r"[A-Za-z0-9]{30,100}"),
    ("gsk_", r"[A-Za-z0-9]{40,100}"),
    ("lin_api_ lin_oauth_", r"[A-Za-z0-9]{40,64}"),
    ("glsa_ glc_", r"[\w+/=-]{32,500}"),
    ("CLOJARS_", r"[a-z0-9]{60}"),
    ("figd_", r"[\w-]{40,60}"),
    ("glpat- gldt- glrt- glcbt- glptt- glft- glimt- glagent- gloas- glsoat- glffct-", r"[\w.-]{16,255}"),
    ("xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs-", r"[\w-]{10,255}"),
    ("xapp-", r"\d-[\w-]{10,255}"),
    ("GOCSPX-", r"[\w-]{28}"),
    ("key-", r"[0-9a-f]{32}(?![A-Za-z0-9])"),
    ("pypi-", r"AgEIcHlwaS5vcmc[\w-]{16,1000}"),
    ("sq0atp- sq0csp- sq0idp- sq0asp-", r"[\w-]{22,60}"),
    ("sk-", r"(?:proj-|ant-|svcacct-|or-)?[\w-]{20,255}"),
    ("xai-", r"[A-Za-z0-9]{60,100}"),
    ("NRAK-", r"[A-Z0-9]{27}"),
    ("PMAK-", r"[a-f0-9]{24}-[a-f0-9]{34}"),
    ("pul-", r"[a-f0-9]{40}"),
    ("tskey-auth- tskey-api- tskey-client- tskey-scim- tskey-webhook-", r"[A-Za-z0-9]{8,32}-[A-Za-z0-9]{20,64}"),
    ("pplx-", r"[A-Za-z0-9]{48}"),
    ("HRKU-", r"AA[\w-]{58}"),
    ("CFPAT-", r"[\w-]{43}"),
    ("FLWSECK_TEST- FLWSECK-", r"[A-Za-z0-9]{12,40}(?:-X)?"),
    ("tk-us-", r"[\w-]{48}"),
    ("ico-", r"[A-Za-z0-9]{32}"),
    ("dnkey-", r"[\w=-]{26,200}"),
    ("NRJS-", r"[a-f0-9]{19}"),
    ("NRII-", r"[\w-]{32}"),
    ("tvly-", r"[\w-]{20,50}"),
    ("xsmtpsib-", r"[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    ("nvapi-", r"[\w-]{60,70}"),
    ("xkeysib-", r"[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    ("AGE-SECRET-KEY-", r"1[0-9A-Z]{58}"),
    ("ya29.", r"[\w-]{20,2000}"),
    ("sk.", r"eyJ[\w-]{20,500}\.[\w-]{20,100}"),
    ("s.", r"(?=[a-zA-Z]{0,24}\d)(?=[a-z\d]{0,24}[A-Z])[A-Za-z0-9]{24}(?![\w(.])"),
    ("SG.", r"[\w-]{16,32}\.[\w-]{16,64}"),
    ("hvs. hvb. hvr.", r"[\w-]{24,255}"),
    ("dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit. dp.st.dev. dp.st.prd. dp.st.stg.", r"[A-Za-z0-9]{40,44}"),
    ("dt0c01. dt0s01. dt0s16.", r"[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    (".atlasv1.", r"[\w-]{60,70}"),
    ("sha256~", r"[\w-]{43}"),
    ("Q~", r"[\w~.-]{31,34}"),
]
_CAPITAL = LazyPattern(  # AWS, Google, Atlassian, Telegram and others
    r"A(?:(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}(?![A-Za-z0-9])|Iza[\w-]{35}|TATT3[\w=-]{60,255}"
    r"|A(?<=\d{8}:AA)[\w-]{30,40}(?![\w-])|KCp[A-Za-z0-9]{69,80}|TBB[A-Za-z0-9]{28,40}|VNS_[\w-]{18,24}"
    r"|BSK[A-Za-z0-9+/]{100,300}={0,2}|PI-[A-Z0-9]{26}|3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3})"
)
_CAPITAL_EFFORT = 0.06
_WHOLE = [  # the text to search for, and the pattern of the token from there
    ("SK", LazyPattern(r"SK[0-9a-f]{32}(?![A-Za-z0-9])")),
    ("dapi", LazyPattern(r"dapi[a-h0-9]{32}(?:-\d)?(?![A-Za-z0-9])")),
    ("//0", LazyPattern(r"//0(?<=1//0)[\w-]{40,255}")),
    ("EAA", LazyPattern(r"EAA(?:A[\w-]{60,200}|[MC][A-Za-z0-9]{80,400})")),
]
_RARE = [  # searched for only in texts of up to `_SHORT` characters
    LazyPattern(r"pat(?:[A-Za-z0-9]{14}\.[a-f0-9]{64}|\.[\w-]{22}\.[0-9a-f]{24}\.[A-Za-z0-9]{20})"),
    LazyPattern(r"v1\.0-[a-f0-9]{24}-[a-f0-9]{146}"),
]
_TIME_AND_CHECK = LazyPattern(r"\.(?<=\w\.)[\w-]{6}\.[\w-]{27,38}(?![\w-])")
_NUMBER = LazyPattern(r"(?<![\w.-])[MNO][\w-]{23,27}\Z")
_OF_MAILCHIMP = LazyPattern(r"-us(?<=(?<![A-Za-z0-9])[0-9a-f]{32}-us)\d{1,2}(?![A-Za-z0-9])")
_BEFORE_PLACE = 32  # characters of a key of Mailchimp in front of ``-us``
_BODIES = {one: LazyPattern(body) for many, body in _BEGINNINGS for one in many.split()}
_LONGEST = max(map(len, _BODIES))
_BY_TAIL: dict[str, list[str]] = {}  # the last two characters of a beginning → the beginnings, the longest first
for _one in sorted(_BODIES, key=len, reverse=True):
    _BY_TAIL.setdefault(_one[-2:], []).append(_one)
_LETTERS_AND_DIGITS = string.ascii_letters + string.digits
_IN_FRONT = 14  # characters of a token of Terraform Cloud before its ``.atlasv1.``
_SIGN_EFFORT = 0.5
_TOKEN_EFFORT = 2.5
_WORD_EFFORT = 0.6


def is_likely(text: str) -> bool:
    """Whether a text may hold a token of a service; cheap."""
    # No loop, which takes half as long again: this is called for every text.
    return len(text) >= _SHORTEST and (
        ("_" in text and _UNDERLINED.search(text) is not None)
        or ("-" in text and (_DASHED.search(text) is not None or ("-us" in text and _may_be_of_mailchimp(text))))
        or ("." in text and _DOTTED.search(text) is not None)
        or ("A" in text and (_CAPITAL.search(text) is not None or "EAA" in text))
        or "SK" in text or "dapi" in text or "//0" in text or "~" in text
    )  # fmt: skip


def masked(text: str, mask: str, effort: Effort) -> str:
    """Mask tokens of services in the text."""
    if len(text) < _SHORTEST:
        return text
    for sign, pattern, cost in _SEARCHES:
        if sign in text:
            if len(text) > _SHORT:
                text = effort.spend(text, cost * estimated(text, sign))
            text = without(text, _behind_signs(pattern, text, effort), mask, effort)
    if "A" in text:
        if len(text) > _SHORT:
            text = effort.spend(text, _CAPITAL_EFFORT * estimated(text, "A"))
        text = without(text, _no_ends(text, _CAPITAL.finditer(text)), mask, effort)
    for beginning, whole in _WHOLE:
        if beginning in text:
            text = without(text, _words(whole, text, beginning, effort), mask, effort)
    if len(text) <= _SHORT:
        for whole in _RARE:
            text = without(text, _no_ends(text, whole.finditer(text)), mask, effort)
        text = without(text, _of_discord(text, effort), mask, effort)
        text = without(text, _of_mailchimp(text, effort), mask, effort)
    return text


def _may_be_of_mailchimp(text: str) -> bool:
    return len(text) <= _SHORT and _OF_MAILCHIMP.search(text) is not None


def _of_mailchimp(text: str, effort: Effort) -> Iterator[tuple[int, int]]:
    """Yield Mailchimp's keys, which end with the data centre: ``…-us14``."""
    for place in matches(_OF_MAILCHIMP, text, "-us", effort, _WORD_EFFORT):
        yield place.start() - _BEFORE_PLACE, place.end()


def _of_discord(text: str, effort: Effort) -> Iterator[tuple[int, int]]:
    """Yield Discord's tokens, ``MTA4OTI3….GNqVwY.d7Fguo…``: a number in base64, a time, and a check."""
    for match in _TIME_AND_CHECK.finditer(text):
        effort.left -= _TOKEN_EFFORT
        if number := _NUMBER.search(text, max(0, match.start() - 30), match.start()):
            yield number.start(), match.end()


def _behind_signs(pattern: LazyPattern, text: str, effort: Effort) -> Iterator[tuple[int, int]]:
    done = 0
    for sign in pattern.finditer(text):
        end = sign.end()
        effort.left -= _SIGN_EFFORT
        beginnings = _BY_TAIL.get(text[end - 2 : end])
        if beginnings and end > done:
            effort.left -= _TOKEN_EFFORT
            if token := _token_at(text, end, beginnings):
                yield token
                done = token[1]
        if effort.left < 0:
            yield max(end, done), max(end, done)


def _token_at(text: str, end: int, beginnings: list[str]) -> tuple[int, int] | None:
    """Return the token whose beginning, one of ``beginnings``, ends at ``end``."""
    before = text[max(0, end - _LONGEST) : end]
    for beginning in beginnings:
        if before.endswith(beginning):
            start = end - len(beginning)
            if beginning == ".atlasv1.":  # in the middle of the token
                front = text[max(0, start - _IN_FRONT) : start]
                start -= len(front) - len(front.rstrip(_LETTERS_AND_DIGITS))
            elif beginning.startswith("xox") and text.endswith("xoxe.", 0, start):
                start -= 5
            if start and beginning[0] not in ".Q" and text[start - 1].isalnum():
                return None
            body = _BODIES[beginning].match(text, end)
            return (start, body.end()) if body else None
    return None


def _words(pattern: LazyPattern, text: str, beginning: str, effort: Effort) -> Iterator[tuple[int, int]]:
    return _no_ends(text, matches(pattern, text, beginning, effort, _WORD_EFFORT))


def _no_ends(text: str, found: Iterable[re.Match[str]]) -> Iterator[tuple[int, int]]:
    """Yield where the matches are that do not begin inside a word."""
    for match in found:
        start, end = match.span()
        if start == 0 or text[start] == "/" or not text[start - 1].isalnum():
            yield start, end
