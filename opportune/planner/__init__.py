"""What a technique will cost before anything runs: architecture arithmetic, hardware, calibration.

families, architecture   a config.json -> widths -> parameters, tensor by tensor
sizes, catalogue         "10B" -> plausible widths; well-known architectures
techniques               trainable parameters of every method
work                     floating-point operations of a step
stacks, activations      what software keeps for the backward pass
hardware                 devices: peaks, memory, bandwidth, links, power, dated prices
job, layout, memory      one step; how it is divided over devices; bytes a device
timing, energy           seconds, joules, dollars
calibration              constants fitted on published measurements (by `benchmarks.planner`)
data, plan, choosing     how much is read; a whole plan; the cheapest that fits
asking, answer_memory    prompting: its plan, and what a device must hold for it
grid                     the table of methods and sizes
probe                    this machine
"""
