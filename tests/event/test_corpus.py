"""In lines that other projects and applications log, masking finds nearly all secrets and hardly anything else."""

from __future__ import annotations

from shipper.event.redact import Redact, Redactor

from .corpora import innocent_texts, secret_texts


def test_nearly_all_secrets_of_the_corpus_are_masked() -> None:
    mask = Redactor(Redact()).mask_text
    texts = [case for one in secret_texts() for case in one]

    missed = [text for text, secrets in texts if any(secret in mask(text) for secret in secrets)]

    assert len(texts) > 600
    assert all(secrets for _, secrets in texts)
    assert len(missed) <= 0.02 * len(texts), missed


def test_hardly_any_text_of_the_corpus_without_a_secret_is_changed() -> None:
    mask = Redactor(Redact()).mask_text
    texts = [text for one in innocent_texts() for text in one]

    changed = [(text, mask(text)) for text in texts if mask(text) != text]

    assert len(texts) > 800
    assert len(changed) <= 0.01 * len(texts), changed


def test_no_text_that_is_changed_passes_as_one_that_need_not_be_looked_at() -> None:
    redactor = Redactor(Redact())
    texts = [text for one in secret_texts() for text, _ in one] + [text for one in innocent_texts() for text in one]

    assert [text for text in texts if not redactor.is_suspicious(text) and redactor.mask_text(text) != text] == []
