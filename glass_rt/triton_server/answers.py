"""The former place and the former names of `glass_rt.serve.triton.batch`."""

from glass_rt.serve.triton.batch import TritonRefusal as Refusal
from glass_rt.serve.triton.batch import TritonRequest as Request
from glass_rt.serve.triton.batch import TritonResponse as Response
from glass_rt.serve.triton.batch import judge_requests as answer

__all__ = ["Refusal", "Request", "Response", "answer"]
