"""What the name of an app was derived from, in words. The rules: `config/app_name.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

UNKNOWN = "not known: no shipper process of this version has run with this spool"


def reason_text(name_from: Mapping[str, str]) -> str:
    """Whether the name was given, or from what it was derived."""
    rule = name_from.get("rule", "")
    if rule == "given":
        return "given: app= or SHIPPER_APP"
    origin = _origin(rule, name_from)
    if not origin:
        return UNKNOWN
    digest = name_from.get("destinations")
    end = f"and a hash of its URLs and keys ({digest})" if digest else "and its spool was given"
    return f"derived from {origin}, {end}"


def _origin(rule: str, name_from: Mapping[str, str]) -> str:
    folder = name_from.get("folder", "")
    if rule == "script":
        return f"the script {name_from.get('script', '')}"
    if rule == "server":
        modules = f", with the modules {name_from['modules']}" if name_from.get("modules") else ""
        return f"the program {name_from.get('server', '')} in the folder {folder}{modules}"
    if rule == "folder":
        return f"the folder {folder} (there is no script: python -c, stdin, the prompt, uWSGI, mod_wsgi)"
    return ""


def relations(found: Sequence[tuple[str, Mapping[str, str]]]) -> Iterator[str]:
    """Yield a sentence for each program that is several apps because it has several destinations.

    ``found``: the name of each app, and what it was derived from.
    """
    programs: dict[str, list[str]] = {}
    for app, name_from in found:
        if name_from.get("destinations"):
            programs.setdefault(app.removesuffix(f"-{name_from['destinations']}"), []).append(app)
    for names in programs.values():
        names = list(dict.fromkeys(names))
        if len(names) > 1:
            yield (
                f"{', '.join(names[:-1])} and {names[-1]} are one program that sends to other URLs or with other keys: "
                "so they are several apps. SHIPPER_APP=NAME makes them one."
            )
