"""How well the router's learning chooses: a replay of real questions, a world that changes, and what a decision costs.

    outcomes  questions with whether a weak and a strong model answered rightly    curve   APGR and CPT with intervals
    train     the shipped weights, and those of a cross-validation                 replay  feedback, one at a time
    drift     prices, providers and models that change; regret by strategy         plot    the same as a picture
    speed     CPU of a decision                            overhead   what of a request's time is routing's

Run: `python -m bench.routing [FILE]`; the weights are made by `python -m bench.routing.train [FILE]`.

Above it: nothing. Below it: `pipelines.routing`, numpy. Outside it: Ray, sockets, providers.
"""
