"""Files, storage, processes, terminals and text: nothing here depends on the rest of sepsearch.

Front door: `files` (atomic writes), `storage.open_storage` (folders and object stores), `errors.UserError`.
"""
