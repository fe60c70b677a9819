"""What the paper's own runs gave, in per cent after 36 languages: R@1 of text to picture, average accuracy, forgetting.

CLL-CLIP + TEIR, AAAI 2024; yangbang18/CLFM at 216e76c, P/reproducibility/results/*.csv.
"""

XM3600 = {
    "cll-clip": (17.6, 18.4),
    "teir": (24.3, 12.5),
    "teir-init": (20.5, 18.2),
    "teir-reg": (22.8, 12.6),
    "teir-reg-gradient": (19.5, 16.1),
    "teir-reg-decay": (19.9, 15.5),
    "teir-lingual": (23.2, 12.2),
    "teir-modal": (17.7, 12.2),
    "teir-oracle": (27.1, 10.0),
    "teir-whole": (4.0, 36.9),
    "oewc": (21.8, 14.1),
    "oewc+teir": (25.6, 11.2),
    "er": (19.4, 16.0),
    "er+teir": (24.7, 11.2),
    "der": (21.0, 14.4),
    "der+teir": (26.7, 9.3),
    "mla": (20.6, 18.1),
    "mla+teir": (29.0, 10.7),
    "p-tuning": (16.4, 19.3),
    "p-tuning+teir": (25.4, 11.5),
    "lora": (18.7, 18.9),
    "lora+teir": (27.0, 11.7),
    "dualprompt": (16.4, 18.4),
    "dualprompt+teir": (23.6, 12.1),
    "codaprompt-untrained": (15.9, 17.6),
    "codaprompt-untrained+teir": (25.3, 7.9),
}
