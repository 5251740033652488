"""The names of ARKit's 52 blendshapes."""

from __future__ import annotations

SIDED = (
    "browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut",
    "eyeLookUp", "eyeSquint", "eyeWide", "jaw", "mouth", "mouthDimple", "mouthFrown",
    "mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer",
)  # fmt: skip
WHOLE = (
    "browInnerUp", "cheekPuff", "jawForward", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "tongueOut",
)  # fmt: skip
ARKIT = sorted([name + side for name in SIDED for side in ("Left", "Right")] + list(WHOLE))
# Those that part the lips.
PARTED = ("jawOpen", "mouthClose", "mouthFunnel", "tongueOut", "mouthLowerDown", "mouthUpperUp")  # fmt: skip
