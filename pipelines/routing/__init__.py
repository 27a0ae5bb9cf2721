"""Which model answers: what is known of the candidates (`table`, `statistics`) and the pure decision (`choose`).

The router actor owns the state and publishes a `Table`; every gateway replica decides from its latest copy.
"""
