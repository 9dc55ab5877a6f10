"""What a technique will cost before anything runs: architecture arithmetic, hardware, calibration, published records.

families, architecture   a config.json -> widths -> parameters, tensor by tensor
sizes, catalogue         "10B" -> plausible widths; well-known architectures
techniques               trainable parameters of every method
work                     floating-point operations of a step
stacks, activations      what software keeps for the backward pass
hardware                 devices: peaks, memory, bandwidth, links, power, dated prices
memory, sharding         bytes a device; how a job is divided
timing, energy           seconds, joules, dollars
records, calibration     published measurements, and what is fitted on them
plan, asking, grid       a whole plan; prompting; the table of methods and sizes
probe, ledger            this machine; predicted against measured
"""
