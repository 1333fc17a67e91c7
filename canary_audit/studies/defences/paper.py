"""The defence table of the 2019 paper, beside ours.

The figures are quoted from secondary notes and have not been checked against the paper; every report says so.
"""

from canary_audit.studies.defences.results import PaperRow, PaperTable

CARLINI_2019 = PaperTable(
    source="Carlini, Liu, Erlingsson, Kos, Song: The Secret Sharer, USENIX Security 2019, section 9",
    caution="Quoted from secondary notes, to be checked against the paper before it is relied on.",
    rows=(
        PaperRow(defence="none (RMSProp)", epsilon="none", test_loss="1.17", exposure_bits="31.0", extracted="yes"),
        PaperRow(defence="none (SGD)", epsilon="none", test_loss="1.86", exposure_bits="9.5", extracted="no"),
        PaperRow(defence="DP-SGD (RMSProp)", epsilon="1e9", test_loss="1.26", exposure_bits="2.8", extracted="no"),
        PaperRow(defence="DP-SGD (RMSProp)", epsilon="2e8", test_loss="1.32", exposure_bits="3.2", extracted="no"),
        PaperRow(defence="DP-SGD (RMSProp)", epsilon="89", test_loss="1.34", exposure_bits="2.1", extracted="no"),
        PaperRow(defence="DP-SGD (RMSProp)", epsilon="5.26", test_loss="1.41", exposure_bits="1.8", extracted="no"),
        PaperRow(defence="DP-SGD (RMSProp)", epsilon="1.21", test_loss="1.59", exposure_bits="2.3", extracted="no"),
        PaperRow(defence="DP-SGD (RMSProp)", epsilon="0.65", test_loss="1.69", exposure_bits="1.1", extracted="no"),
        PaperRow(defence="DP-SGD (SGD)", epsilon="infinite", test_loss="2.11", exposure_bits="3.6", extracted="no"),
    ),
    remarks=(
        "Dropout, weight decay and 8-bit quantization: no meaningful reduction of exposure.",
        "Early stopping: the secret is memorized before validation loss is least.",
        "Sanitizing by a blacklist: good practice, and not sufficient, because it misses secrets of unknown form.",
    ),
    differences=(
        "Their exposures are of one canary after training; ours are medians of several, over seeds, and are compared "
        "at equal validation loss as well. A secret never seen has an exposure of 1.44 bits on average and is below "
        "4.32 bits in 95 of 100 cases, so 1.1 and 3.6 bits of a single canary do not differ.",
        "Their text is the Penn Treebank (5 MB), read by characters. The noise of DP-SGD is shared among rows of text, "
        "so with less text the same epsilon costs more of the language.",
        "Their losses are per character of another text and cannot be set beside ours; only their order can.",
        "Their optimizer is RMSProp or SGD, ours is AdamW.",
    ),
)
