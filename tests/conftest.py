"""Tests compile thousands of tiny programs: ask the compiler for speed of compiling, not of
running. XLA_FLAGS that are set, be it to nothing, are left as they are."""

import importlib.metadata
import os

FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
# four times as fast to compile as the code generator that jaxlib 0.11 has left
OLD_EMITTERS = "--xla_cpu_use_fusion_emitters=false"

# meshes: CPU devices that share the cores
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

if "XLA_FLAGS" not in os.environ:
    release = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))
    os.environ["XLA_FLAGS"] = " ".join(FLAGS + [OLD_EMITTERS] * (release < (0, 11)))
