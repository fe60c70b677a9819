"""What the paper's own runs gave: XM3600 text-to-image R@1 after 36 languages, from its public result files.

CLL-CLIP + TEIR, AAAI 2024; yangbang18/CLFM at 216e76c, P/reproducibility/results/*.csv: average accuracy, forgetting.
"""

XM3600 = {
    "zero-shot": "4.7, –",
    "cll-clip": "17.6, 18.4",
    "teir-init": "20.5, 18.2",
    "teir-reg": "22.8, 12.6",
    "teir": "24.3, 12.5",
    "joint": "37.1, –",
}
