"""Coverage-guided fuzzing: what may be asked for in `targets`, who asks in `worker` and `runner`.

A target is a function of some bytes that holds what comes out against what must be true. It knows nothing of the
fuzzer, so the inputs that were found interesting, `corpus/`, are also replayed by an ordinary test.
"""
