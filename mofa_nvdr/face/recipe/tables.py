"""The authored numbers of the built-in face: millimetres, +x the subject's left, +y up, +z out.

Origin of every table: y = 0 at the pupils, z = 0 at the glabella. The numbers follow published means of adult
faces (inter-pupillary distance 63, mouth width 51, bizygomatic breadth 137, sellion to menton 120, nose
protrusion 20 mm); no scan, mesh or texture of others enters them.
"""

from __future__ import annotations

import numpy as np

# The skull without nose, lips and lids: rows from the hairline to below the chin. For each row the nominal
# height, then x, z and the height's offset at nine columns from the midline to in front of the ear.
LOFT_COLUMNS = np.array([0, 9, 18, 31, 45, 56, 64, 69.5, 73.0])
LOFT_ROWS: list[tuple[float, list[float], list[float], list[float]]] = [
    (86, [0, 9, 17.8, 30, 40.5, 48, 53, 56, 58],
     [-13, -13.5, -15.5, -21.5, -29.5, -38, -46, -52.5, -58], [0, -.4, -1.6, -5, -11, -18, -26, -33, -40]),
    (68, [0, 9, 18.2, 31.3, 43.3, 52, 57.2, 60.5, 62.5],
     [-6.5, -7, -8.9, -14.5, -24, -35, -46, -55.5, -64], [0, -.2, -.8, -2.5, -6, -11.5, -17.5, -23.5, -29]),
    (50, [0, 9, 18.3, 32, 45.3, 54.8, 60.7, 64.2, 66.2],
     [-2.6, -2.9, -4.6, -10, -20, -33.5, -47.5, -60, -70], [0, 0, -.3, -1.2, -3.2, -6.5, -10.5, -14.8, -19]),
    (34, [0, 9, 18.3, 32, 46, 56.2, 63, 67.2, 69.7],
     [-.8, -1.1, -2.8, -7.8, -18, -32.7, -49, -64.5, -76.5], [0, 0, 0, -.4, -1.4, -3.2, -5.6, -8, -10.5]),
    (18, [0, 9, 18, 31.5, 46, 56.8, 64.6, 69.8, 72.7],
     [0, -.8, -3, -7.5, -17.5, -33.3, -50.5, -68.5, -83], [0, 0, 0, 0, -.4, -1, -1.8, -2.7, -3.6]),
    (6, [0, 9, 18, 31, 45, 57, 65.5, 71.3, 74.2],
     [-5, -9, -15, -16.5, -21.5, -34.5, -52, -71, -87], [0] * 9),
    (-4, [0, 9, 18, 31, 45, 57, 65.5, 71.8, 75],
     [-8, -11.5, -16.5, -18, -21.5, -33.5, -51.5, -72, -90], [0] * 9),
    (-14, [0, 9, 18, 31, 45, 57, 66, 72, 75],
     [-8.5, -10, -13, -15.5, -20, -32, -51, -73, -91], [0] * 9),
    (-28, [0, 9, 18, 31, 45, 57, 66.5, 72.5, 75.5],
     [-6, -7, -9.5, -13.5, -20.5, -33, -52, -74, -92], [0] * 9),
    (-42, [0, 9, 18, 31, 44, 55, 64.2, 70.2, 73.2],
     [-.5, -2, -6.5, -14, -23.5, -37, -55, -76, -93], [0] * 9),
    (-53, [0, 9, 17.5, 30, 42.5, 53, 61.8, 67.6, 70.6],
     [2.5, 1.5, -2.5, -12, -24, -39, -58, -78, -94], [0, 0, 0, 0, 0, 0, .5, 1, 1.5]),
    (-66.5, [0, 9, 17.5, 29.5, 41, 51, 59.2, 64.6, 67.6],
     [3, 1.5, -3, -13, -25.5, -41.5, -61, -80, -95], [0, 0, 0, 0, 0, 1, 3, 5, 7]),
    (-78, [0, 9, 17.3, 28.5, 39.6, 49.3, 57, 62.2, 65.4],
     [0, -1.5, -5.5, -14.5, -27, -43.5, -63, -81, -95], [0, 0, 0, 0, .5, 2.5, 6, 9.5, 13]),
    (-90, [0, 8.9, 17.4, 28.4, 39, 48.2, 55.5, 60.5, 64],
     [-1.5, -2.5, -6.5, -16, -29.5, -46, -65, -82, -95], [0, 0, 0, .5, 2, 5, 10, 15.5, 21]),
    (-102, [0, 8.8, 17, 27.6, 37.6, 46.5, 53.3, 58.3, 62],
     [-2, -3.5, -8, -18, -32.5, -49, -67, -83, -95], [0, 0, .3, 1.5, 4.5, 9, 15, 22, 29]),
    (-112, [0, 8.4, 16.2, 26.2, 36, 44.8, 51.5, 56.4, 60.5],
     [-7, -9, -13.5, -23.5, -37, -53, -69, -84, -95], [0, .2, 1, 3, 7, 12.5, 19.5, 28, 36]),
    (-118, [0, 8, 15.2, 24.8, 34.2, 42.8, 49.6, 55, 59.2],
     [-17, -18.5, -22.5, -31, -43, -57, -72, -85, -95.5], [0, .2, 1, 3.5, 8, 14, 22, 31, 40]),
    (-121, [0, 7.6, 14.4, 23.4, 32.2, 40.3, 47.3, 53, 57.6],
     [-30, -31, -34, -41, -51, -63, -76, -87, -96], [0, .2, 1, 3.5, 8, 14.5, 23, 32, 42]),
]  # fmt: skip
TOP, BOTTOM = 86.0, -121.0

# Rows of the grid that are slit open.
EYE_ROW, MOUTH_ROW = 0.0, -66.5
EYE_INNER, EYE_OUTER, PUPIL_X, PUPIL_Y = 16.0, 45.5, 31.5, 0.2
MOUTH_HALF_WIDTH = 25.5

# The nose's midline (y, z of the dorsum) and its half widths (y, ridge, flank).
NOSE_PROFILE = np.array([
    (26, -.3), (16, -1.2), (9, -3.6), (3, -4.2), (-4, -1.4), (-13, 3.8), (-22, 10.0), (-29, 15.6),
    (-33.5, 18.8), (-36.5, 18.8), (-39.2, 15.6), (-41.2, 10.2), (-43.4, 5.6), (-46, 3.0),
])  # fmt: skip
NOSE_WIDTH = np.array([
    (16, 4.0, 15), (8, 2.8, 11.5), (3, 2.4, 10.5), (-5, 2.6, 11.5), (-15, 3.2, 14.5), (-24, 4.2, 17.5),
    (-31, 5.6, 18.5), (-36, 7.0, 17), (-40, 7.0, 15), (-46, 6.0, 13),
])  # fmt: skip

# The eyeball as far as it is seen: an ellipsoid wide enough to reach both canthi.
EYEBALL_CENTRE = np.array([31.2, 0.0, -26.3])
EYEBALL_RADII = np.array([15.8, 12.6, 11.6])
IRIS_RADIUS, PUPIL_RADIUS = 5.9, 2.1
HIDDEN_WHITE = (3.0, 2.6)  # how far the eyeball is drawn under the upper and the lower lid

# Lip profiles: depth over the way from the seam (0) to the vermilion border (1) and beyond.
UPPER_LIP = ([0, .14, .42, .72, 1, 1.3, 1.9, 2.6, 3], [-2.2, -.3, 1.6, 2.1, 1.5, .65, .1, 0, 0])  # fmt: skip
LOWER_LIP = ([0, .12, .42, .8, 1.0, 1.35, 2.0, 2.8, 3], [-2.2, .2, 3.3, 2.5, 1.2, .2, 0, 0, 0])  # fmt: skip

# Rows of the mouth's bag (dz, dy): inner upper lip, gum, upper teeth, palate, throat, tongue (body, tip),
# lower teeth, inner lower lip; and their colours.
MOUTH_BAG = [
    (-2.2, .9), (-4.6, 3.2), (-6.0, 5.0), (-5.2, 4.4), (-5.0, 1.5), (-5.6, -1.6), (-8.5, -1.2), (-26, 7),
    (-30, -6), (-20, -1.8), (-11, -3.0), (-7.8, -1.4), (-7.4, -4.5), (-6.8, -6.0), (-2.6, -1.6),
]  # fmt: skip
TEETH = np.array([.84, .81, .73])  # fmt: skip
THROAT = np.array([.13, .045, .045])  # fmt: skip
MOUTH_BAG_COLORS = [
    [.36, .14, .13], [.30, .10, .10], [.45, .18, .18], TEETH * .88, TEETH, TEETH * .9, [.20, .07, .07],
    THROAT, THROAT, [.40, .17, .17], [.52, .25, .24], TEETH * .72, TEETH * .78, [.30, .10, .10],
    [.36, .14, .13],
]  # fmt: skip
UPPER_BAG_ROWS = 8  # rows that move with the upper jaw
MOUTH_POCKET_ROWS, EYE_POCKET_ROWS = len(MOUTH_BAG), 17

# Mean colours, gamma-encoded sRGB. The skin sits so that two and a half standard deviations of melanin to
# the dark side and two to the light side stay in [0, 1].
SKIN = np.array([.68, .525, .447])  # fmt: skip
LIP = np.array([.59, .345, .325])  # fmt: skip
BROW = np.array([.20, .145, .115])  # fmt: skip
SCLERA = np.array([.76, .72, .69])  # fmt: skip
IRIS = np.array([.33, .235, .16])  # fmt: skip
BEARD = np.array([.034, .028, .022])  # what the mean's jaw is darker by  # fmt: skip
# How much of itself shadowed skin loses for a standard deviation of melanin beyond its share, and how the
# white of the eye follows skin.
SHADOW_MELANIN, SCLERA_MELANIN = 0.24, 0.10
LASH = np.array([.15, .10, .085])  # fmt: skip

BROW_LINE = ([9, 13, 22, 33, 41, 48, 55, 60], [17.2, 18.4, 21.2, 24.2, 24.6, 22.4, 18.0, 14.0])
BROW_THICKNESS = ([9, 13, 20, 30, 40, 48, 55], [2.4, 3.9, 4.3, 3.8, 3.1, 2.2, 1.1])

# Where the head turns: about the middle between the nose's root and the ears, so that turning it moves the
# outline's centre in a picture as little as possible.
HEAD_CENTRE = np.array([0.0, -30.0, -50.0])
