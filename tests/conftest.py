"""Tests compile thousands of tiny programs: ask the compiler for speed of compiling, not of
running."""

import os

FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
