"""Tables, transactions, repositories, the update log, migrations."""
