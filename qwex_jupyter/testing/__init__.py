"""For tests of what is built on this package: `memory` is a runner that does as it is told."""
