"""`withdraw`: a community takes its language back, with a signed certificate; and the check of such a certificate."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Annotated, Any

import typer

from ..client import build_path, carry_out, open_service
from ..output import REFUSED, AsJson, Yes, format_count, format_size, print_json, print_table, say, stop
from .versions import DryRun, Expected, Reason


def withdraw(
    tag: Annotated[str, typer.Argument(help="Tag of the language.")] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", dir_okay=False, help="The certificate; by default TAG-withdrawal.json."),
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, readable=True, help="Check a certificate in place of withdrawing."),
    ] = None,
    expected: Expected = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Take a language away for good, with its datasets and files, and get a signed certificate.

    After an interruption, run the same command again.
    """
    if verify is not None:
        _verify(verify, as_json)
        return
    if not tag:
        stop("Give the tag of the language, or --verify with a certificate.", REFUSED)
    body, question = {"reason": reason, "expected": expected}, "Remove all this for good?"
    with open_service(upload=True) as client:  # removing many vectors takes minutes
        path = f"{build_path('/v1/admin/languages', tag)}/withdraw"
        done = carry_out(client, path, body, _show, question, dry_run=dry_run, yes=yes, as_json=as_json)
    if done is None:
        return
    file = out or Path(f"{done['language']}-withdrawal.json")
    try:
        file.write_text(json.dumps(done["certificate"], ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        stop(f"{file} cannot be written: {error.strerror}. The same command gives the certificate again.")
    say(f"Withdrawn; release {done['release']} serves. The certificate is {file}.")


def _show(plan: dict[str, Any]) -> None:
    size = format_size(sum(each["bytes"] or 0 for each in (*plan["versions"], *plan["datasets"])))
    parts = [
        format_count(len(plan["versions"]), "version"),
        format_count(len(plan["datasets"]), "dataset"),
        format_count(plan["captions"], "taught caption"),
        format_count(plan["answers"], "answer"),
    ]
    say(f"{plan['language']}: {', '.join(parts)}, {size}.")
    say("What remains:")
    print_table(("what", "why"), [(each["name"], each["why"]) for each in plan["remains"]])
    say(f"based on: release {plan['release']}, which serves now")


def _verify(file: Path, as_json: bool) -> None:
    """Say whether a certificate is as it was signed; exits with 1 if it is not."""
    from cryptography.exceptions import InvalidSignature  # late: help needs no cryptography
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        signature, key = b64decode(document.pop("signature")), b64decode(document["public_key"])
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text.encode())
        removed = document["removed"]
        what = f"{document['name']} ({document['language']}) was withdrawn on {document['withdrawn_at'][:10]}"
        gone = [len(removed["versions"]), len(removed["datasets"])]
    except InvalidSignature:
        stop(f"{file} was changed after it was signed.")
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        stop(f"{file} is no certificate of a withdrawal.")
    if as_json:
        print_json({"valid": True, "public_key": document["public_key"], "language": document["language"]})
        return
    counts = " and ".join((format_count(gone[0], "version"), format_count(gone[1], "dataset")))
    say(f"The signature is valid. {what}: {counts}.")
    say(f"Signed with the key {document['public_key']}; ask the service's operator whether that is theirs.")
