"""What is learned of the models: which one answers which kind of request well, from evidence.

    features   a request -> a vector: task, difficulty, topic, shape of the question
    evidence   what was seen: a score, a preference, a valid tool call, a parsed answer, a retry
    signs      the last three, which say little: a bounded offset of one model at one task, relative to the others
    regression a model's evidence -> its expected quality for a vector, with its uncertainty
    tally      Beta posterior of one model at one task; rating: Bradley-Terry; change: has the model changed?
    state      all of it as one value: `Learning.update(evidence, now)`
    view       what gateway replicas need of it to decide: small, published, pure to read

Above it: the router actor (state), the gateway (features, view). Below it: `tasks`, `prompt`, msgspec, numpy.
Outside it: clocks, storage, randomness (they are arguments).
"""
