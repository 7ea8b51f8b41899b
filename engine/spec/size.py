"""What a model is in numbers, told by its config alone: what estimates of memory and time rest on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """`parameters` are exact. The others are of one sample, of texts at full length:

    flops    of the forward pass, in matrix products and convolutions; a multiplication with its
             addition is two. The backward pass takes twice as many.
    kept     numbers that the forward pass keeps for the backward pass.
    unfused  numbers kept beside those where attention is not one kernel (on a CPU, with dropout).
    again    flops that the backward pass computes a second time instead of keeping what they gave.

    embedding: of texts, how many numbers a token becomes.
    """

    parameters: int
    flops: int
    kept: int
    unfused: int = 0
    again: int = 0
    embedding: int = 0


@dataclass(slots=True)
class Layers:
    """A convolutional net or an MLP, summed layer by layer.

    A convolution keeps its input; so does normalisation; a linear layer keeps its input.
    """

    channels: int
    height: int
    width: int
    parameters: int = 0
    flops: int = 0
    kept: int = 0

    @property
    def numbers(self) -> int:
        return self.channels * self.height * self.width

    def branch(self) -> Layers:
        """Another way on from here, to be added later; what goes into it is kept already."""
        return Layers(self.channels, self.height, self.width, kept=-self.numbers)

    def add(self, branch: Layers) -> None:
        self.parameters += branch.parameters
        self.flops += branch.flops
        self.kept += branch.kept

    def convolve(self, channels: int, kernel: int, stride: int = 1, bias: bool = False) -> Layers:
        """A padded convolution."""
        weights = self.channels * channels * kernel**2
        self.kept += self.numbers
        self.channels = channels
        self.height, self.width = -(-self.height // stride), -(-self.width // stride)
        self.parameters += weights + bias * channels
        self.flops += 2 * weights * self.height * self.width
        return self

    def normalise(self) -> Layers:
        self.parameters += 2 * self.channels
        self.kept += self.numbers
        return self

    def pool(self, height: int, width: int, largest: bool = False) -> Layers:
        """Down to height × width; the largest of each window keeps its place, in 8 bytes."""
        self.kept += self.numbers
        self.height, self.width = height, width
        self.kept += 2 * self.numbers * largest
        return self

    def linear(self, outputs: int) -> Layers:
        """Of everything, flattened."""
        self.kept += self.numbers
        self.parameters += (self.numbers + 1) * outputs
        self.flops += 2 * self.numbers * outputs
        self.channels, self.height, self.width = outputs, 1, 1
        return self

    def size(self) -> Size:
        return Size(self.parameters, self.flops, self.kept)
