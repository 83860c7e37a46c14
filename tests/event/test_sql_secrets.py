"""Secrets in SQL are found by their column, wherever the values stand."""

from __future__ import annotations

import pytest

from shipper.event.redact import Redact, Redactor

DJANGO = '(0.001) UPDATE "users" SET "name" = %s, "api_key" = %s WHERE "id" = %s; args=(\'eve\', \'hunter2\', 4)'
SQLALCHEMY = "[SQL: INSERT INTO users (name, password) VALUES (?, ?)]\n[parameters: ('eve', 'hunter2')]"


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO users (name, password) VALUES ('eve', 'hunter2')",
        "insert into `users` (`name`,`password`) values (NULL,'x1'),('eve','hunter2');",
        "INSERT INTO u (name, token, n) VALUES ('it''s, (eve)', 'hunter2', 3)",
        "INSERT INTO u (name, token) VALUES ('eve', 'hunter2",
        DJANGO,
        SQLALCHEMY,
        SQLALCHEMY.replace("('eve', 'hunter2')", "[('bob', 'x1'), ('eve', 'hunter2')]"),
    ],
)
def test_the_value_of_a_secret_column_is_masked_and_no_other(text: str) -> None:
    found = Redactor(Redact()).mask_text(text)

    assert found == text.replace("hunter2", "[redacted]").replace("x1", "[redacted]")


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO users (name, password) VALUES (?, ?)",
        "INSERT INTO users (name, password) VALUES (%s, %s)",
        "INSERT INTO users (name, password) VALUES ('eve', NULL)",
        "INSERT INTO events (name, n) VALUES ('token', 3)",
        "INSERT INTO users (name, password) SELECT name, password FROM old",
        "SELECT password FROM users WHERE name = %s; args=('eve',)",
        "[SQL: SELECT 1 FROM users WHERE token_count = ?]\n[parameters: (17,)]",
    ],
)
def test_sql_without_a_secret_stays(text: str) -> None:
    assert Redactor(Redact()).mask_text(text) == text
