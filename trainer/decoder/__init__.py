"""Decoders: a causal language model of Transformers becomes a sealed version that generates text.

base → export (onnxruntime-genai's model builder, in a child process) → proof (against torch) → sealed.
`graph` runs what was exported: here for the proof, in the exporter to serve. One runtime, so that what was
proved is what answers.
"""

TASK = "text-generation"
