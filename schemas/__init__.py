"""The words everybody shares: ids, roles, the error tree, REST forms, document kinds."""
