"""Models behind an API: how they are reached, asked, and proved to answer what they promise.

From the wire upwards: `address.py` (where to, and where never), `connection.py` and `failures.py` (one request: its
deadline, limits, tries), `journal.py` and `budget.py` (nothing paid twice, nothing overspent), `client.py` (many
requests at once; `strict_json.py` reads the answers). A dialect (`dialect.py`) writes requests and reads answers:
`vllm.py`, `sglang.py`, `llamacpp.py`, `openai.py`, `chat.py`, with what they share in `answers.py`, `choices.py`,
`prompts.py` and `token_names.py`. `offers.py` says what to try, `probe.py` and `consistency.py` prove it on the text of
`control.py`, and `served.py` makes it a `LanguageModel`.
"""
