"""The former place of `glass_rt.serve.triton.batch`."""

from glass_rt.serve.triton.batch import Refusal, Request, Response, answer

__all__ = ["Refusal", "Request", "Response", "answer"]
