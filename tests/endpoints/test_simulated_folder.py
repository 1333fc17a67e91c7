"""A served model folder says what its network says; apart from the other tests, because it needs torch."""

import json

import numpy as np
from simulated import Recorded, folder_model, simulation

from canary_audit.config import ModelConfig
from canary_audit.models.interface import Children
from canary_audit.models.load import load_model, save_model
from canary_audit.models.networks import build_network
from canary_audit.models.tokenizer import train_tokenizer


def test_a_served_folder_says_what_its_network_says(tmp_path):
    tokenizer = train_tokenizer(["the pin is 1234, the code is 5678"] * 9, 300, 64)
    network = build_network(ModelConfig(kind="llama", hidden_size=16, heads=2, context_tokens=64), len(tokenizer), 0, 1)
    save_model(network, tokenizer, tmp_path)
    model = folder_model(tmp_path)
    server = simulation(model, "llamacpp")
    body = {"prompt": "the pin is 1", "n_predict": 1, "n_probs": 1_000, "grammar": "root ::= [a-z]+"}
    status, content = server.reply(Recorded(method="POST", path="/completion", body=body))
    assert status == 200
    (entry,) = json.loads(content)["completion_probabilities"]
    tokens, prompt = np.arange(model.vocab_size), model.encode("the pin is 1")
    local = load_model(tmp_path).language_model.root(prompt, Children(rows=np.zeros_like(tokens), tokens=tokens))[1]
    served = {each["id"]: each["logprob"] for each in entry["top_logprobs"]}
    np.testing.assert_allclose([served[token] for token in tokens], local, atol=1e-5)
    assert model.decode(prompt) == "the pin is 1"
    too_long = Recorded(method="POST", path="/completion", body=body | {"prompt": [5] * 65})
    assert server.reply(too_long)[0] == 400
