"""Addresses of stores, as they are shown."""

from lottery_ticket.address import without_credentials


def test_users_and_passwords_stay_at_home():
    assert without_credentials("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert without_credentials("sqlite:///mlruns/mlflow.db") == "sqlite:///mlruns/mlflow.db"
