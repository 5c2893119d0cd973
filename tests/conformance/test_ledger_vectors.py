"""The ledger against published vectors, and against readers that share no code with it.

Provenance of the vectors:

- Merkle trees: the reference leaves, roots and proofs that Certificate Transparency published for
  RFC 6962 (kept in transparency-dev/merkle, ``proof/verify_test.go``), and the example of RFC 9162
  §2.1.5.
- Notes: C2SP signed-note §Verifier keys; golang.org/x/mod/sumdb/note, whose package documentation
  publishes key and note.
- Checkpoints: three of sum.golang.org, with its published key. The first is also the example of
  C2SP tlog-checkpoint and tlog-cosignature, under another name there.
- Cosignatures: C2SP tlog-cosignature §Format; FiloSottile/torchwood,
  ``cmd/litewitness/testdata/mldsa.txt`` (a log signed with ML-DSA-44, from a published seed).
- Tiles: C2SP tlog-tiles §Merkle Tree and §Partial Tiles.
- Proofs: C2SP tlog-proof, the example of its introduction.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from typing import Any, Final

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import (
    EMPTY_ROOT,
    Ed25519NoteSigner,
    Frontier,
    LedgerSigner,
    MLDSA44Cosigner,
    NoteKey,
    Receipt,
    SignatureType,
    consistency_path,
    encode_leaf,
    extend,
    inclusion_path,
    leaf_hash,
    node_hash,
    parse_note,
    parse_tlog_proof,
    sign_note,
    verify_checkpoint,
    verify_consistency,
    verify_cosignature,
    verify_inclusion,
    verify_note,
)
from bootlease.ledger.tiles import EntryBundle, Tile, parse_tile_path, tile_path, tile_width
from bootlease.token import PrivateKeySigner

LEAVES: Final = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS: Final = [
    bytes.fromhex(text)
    for text in (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
INCLUSION: Final = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY: Final = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
    (
        6,
        7,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
]
SOME_HASH: Final = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")

SPEC_KEY: Final = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE: Final = (
    "This is an example message.\n"
    "\n"
    "\N{EM DASH} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXs"
    "YjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
GO_KEY: Final = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_PRIVATE: Final = b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT: Final = (
    b"If you think cryptography is the answer to your problem,\n"
    b"then you don't know what your problem is.\n"
)
GO_LINE: Final = (
    "\N{EM DASH} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKv"
    "qfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()

SUMDB_KEY: Final = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB_ORIGIN: Final = "go.sum database tree"
SUMDB: Final = [
    (
        20852163,
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
        (
            "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOA"
            "YQ8="
        ),
    ),
    (
        63096908,
        "8lHrQPRYe4KT4WQ9/Qk8/taKnD6IRHbFgfN7vQE2Y54=",
        (
            "Az3gri/oVBN1jAhNZ/iS+W31psFAWRT20/GyrhpU6taFwulQGetBkH5S7wpGXdS935jiIGiUUAXBVHzT/P6fYhqA"
            "mAk="
        ),
    ),
    (
        15081221,
        "BoMMe1wd25Tco0mYGROkyqxHZWx+hcSCtMV315Lu6Lg=",
        (
            "Az3grilD7vQqTrv66jRgKM84Y80KTprrSt4bKmiOPxgmS5ZVBTeCl6dUvjYnN13R+C8j0jGY1WnUADGMkok3U0m2"
            "Zgo="
        ),
    ),
]

COSIGNATURE_LINE: Final = (
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIU"
    "BkBIfZ+qnA=="
)
MLDSA_SEED: Final = "2886adc2b0eabfce67c0472939127998bf886cf256bfee8ba76a253fce1146e0"
MLDSA_NAME: Final = "example.com/mldsa-log"
MLDSA_ID: Final = "b5df45c5"
MLDSA_BODY: Final = b"example.com/mldsa-log\n1\n+zoErtsZtGO6sfiSV/v4UJSIyowisE8hvjw0q5+bD38=\n"
MLDSA_LINE: Final = (
    "td9FxQAAAAAAAAAAkjFvCxC6244QGemHL0hurmk5M3Hj6noQQtBM1TiwnC1lFmT+t+cUG9W0ENlRQtV20lJFLKCzoJ08"
    "ulQEkfiVueKHeMyURh97Iup0R9d41Monv472jkyfDoX3ILyX/kEOuSV4Ed2tU4VmtDSbP0rofMWAbKJRMnzCpNIT5xMe"
    "3tRbWLVTvAtnX9OB4UMKL1dvGS/uuhqW9Ddjik2D8veitBvk3TbQcT8fanSyZqCbDZ5zzw5JS3Gu5oD1zK7z+KiyqbzK"
    "UhglESs7YXFbeU0E03FrXdAPYS6GAuZtBWTJp4DEm4rL+NqU6Xp0n2ehhqd1rFAJUAcsE5CFakQdlmKkkzVMy3VZYll5"
    "ptS0amlYfGqX6/N9bJAYdAoWWpdgCep5eXCutQcTQXc69UocKT99/vholeAP1097GfS+hNL2ndNS2ieMnj8XLD1LCHVo"
    "BjKZUIObB0lx3leGRe9VjYgTRAY2WlE+K32b6Iz1rKzzDD8YBNQdkHgdx44uPOU3I+8szYS6NzQ2Z0QlqAtz0j9vZu9y"
    "EUUxCEORAiMAHLtV5oWZ/RvSE7qq5B0b8WrHGPGoR/qUNK4ECmlIe/SRo6M7yRrPs3das3ox1bkC3f92c98ewHLeQtLw"
    "wsqQJny6rlYaiaiPMxgdT2CVcJEcKOfaK8pdy2fucBDxHrQitpGkeLJLmWk6LLxR/Ut6s6xNyyKSuZlVslS40n9MJ837"
    "uMmJFyecKPliwAj8HzTWQywSkMpEQfJyr4i2Kfa2paOZ4izmotRTfdvbFWlWFwuGLWOQ0X/pKaExpdNDwqahAwbfGkw/"
    "iHbsV7ZIlNIuSNs2ccQvnjM8xqkT6sYYVxYiHpmk5sOwGsdeiMdwQqn7Q/Lz+uc3F6k/r0Ox7MJTX6fPhFdhe8RJg/77"
    "USR/MIGiT4YZHV+XgrtbV0jvMEgB4yEOircsScaBmLv18tTn1GiGlzFjK/s7gOzjk70jf1qCZ1MNgDAPstd/5sXdwYON"
    "0FnA5zPUp9yMkq1/wZq+DuePQDT6nj8zgFrkrvl8s7nibKKaL2bKcje5YP3CFcXLZoESZnC3BJkV85VqXlAKl+dctM3v"
    "NfMVrqk3/boBARw27mdKLsysIREkWR4caByW0csjL3Js9tn1hB0yf6hIGo8mvPIUjPIXn1rFSSKWkQlq15wu2gwEo9Fd"
    "VF5beMdF4LVwuO9PZ1Y4oXuRE2pIzMWq/jEzHAZ7GucP7yzU78X767ucrwO/AXjMlLUsLLFZaQcHHBsrQJLpy5w1Jn/L"
    "7XFyR2g0lBOdT+lSOhx7j33oIlzxmqdR47ovtkg+LJpbAJG7n/JiQ/h/xffe3VdqSsrB8S4ltKz+rq51swoZ59zmRzWa"
    "oNkyWX0eu0E7y6EfpfrKEmr0H+fYtVnJvCznWFKzbv7oDXKC0pOyKZsNctvFwhSGEEURCs1G+4IrAEWG2Y231thQ8HdM"
    "vaMcm+ocvBGhZjmE7bXFkdiJ7S09csFjljFDGCiGRiU+flxkyiqpa1DDgeFRWOEyNAdMeY2iQMTJU9ApqNVrPpjGbg7k"
    "L0HrfKCQM236d16DKfXIiUmZw/NONKnrliAIs6/WSzKdW/JUyTLiKfPV1ItODmw5eNz7lV36dR8g3us/bpWp4OaDIInr"
    "LxYZRfkLHLvXGGg5ogY2k/FMno/3UBbS0QfstK+ByB/pFVYCHWgDjctwpOHaqAAXAiWHAUh1KOpXBMv8qndpzhsYhvKb"
    "rL371aBST0e3iPW/K4x+kFfgdeClsftS9RnE8KDCf4Uz+9QMP9sxj4+ZACztE19eBVaSvCqv54wO6n5248UzbqPXzA1d"
    "weKQziw/FnPWC7qMrcs3jDi6PBPhpruk1xBy08MQg58l4YzuXrPm5gAyiUAyfNszvhTotaU02oljhvg24CycDo/2PvQY"
    "7sBmisIsVVeHssiRxg23CMgWHaPMDn6OM+IhF2xaAqJOjfnsFBWlvMg8LxsrBnOQ1YABVLLtMvCSaIvgBjPt8XtLn9gZ"
    "0HL9OvGsR3efWHTR5p4nZyuHH2Nm8F3nWKVkEI4p4H6Yo5O0hkzCi1ZB7QT3uEIeR0Hq3g/bLTzmm6XzsjWSmQ8CtPap"
    "mXX476QT44wU0CWJ096SqUGUq2ZCDg3kFkV0BuKPIfLCt4sYK9bjj8UZCqkhyHbVm2x+HQwk8mNnDbUd7PK89riPjA33"
    "KX0Sw32RE0uKtB0sC8m7t028aEupsRx56/M0jBgeYmEHuRrXpW9nuOkQPTBaHdmYBHNkzTF2arPzZK3diFuhKPvmSQh2"
    "CN6g8r0p3EN+dmps1fIUfHM6emkEuaod+ZG83vyJsyd5B2oPMTVP12z8VJtDRAYfA5bRj+HEw2aD4f23u/Zq3PHk2C9T"
    "5LTAu28WCuO/EpXGSIkq1/hRpyE0qhJSnPN9/iE74PoU1OgjGBv6uSUsNhNZJeMe2W23s8EAyStB5+u83IBgUctrGwXz"
    "NdoC9LY1p+kNFSAZXIggNB3alVzoS+D9rcCYTUAafpkdwLaYq5/w0wRchljkG61rl+gZCiwtqZv3SHVxO7kRTAzfHsGD"
    "B1yc/9Sz++IMGyFHYvuqtclhpHPPToFByaVl687b1P4t2i/U4fWPZ4BBhN5Q7HGTxubspw1GY2MjBYU5OXvEJu9aWeib"
    "kM/fg6QrxPRYNsJBNJQRywMjYHj6AefrZeGXGxSNgS50kCNBvV7XTli/17y3MFgR4WfNmBK3BqKb87v3DBMVnLHcqvw1"
    "ZVjFPv91q0XYaDdVFHqOnS4Fh5nfwh1qfuvKrUZlwFPcwW+pG4YDyjx90MTFugpQ6KfEusmUhB5Dqr79nYWbOhW3e0PC"
    "EZtxmVrH9EtCHEgO6wnkWjPke6XULARu0ECF1gZvQczEjKfzxCt6Rknz+27lXyzgzRyHWxr0kB/pFty+8IebrDfIW975"
    "7d+1QLonDTmkLQiirF0ygsgQALmk1KljcHD/qiAZPHh5YX+Q2VdDfIfGeMXmCg3nX5r5DINcx47fNHtgWeGn8MjF8Hnf"
    "f6x+ZU/7YqcBrDOvGqn46FBvuRY0+mWkRo576207vQR/023owl7pXZ5p/75V5yDkTZWDtXsfKjpypcxrWIBsg5GC25nZ"
    "djQQGBtFUF1pfn+xvunq9AEIFidYY2Vyc3mYw8TW7PkVKis5PENhdbfJHDtIdIiQsLe+1Nr+/wAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAA4eKDU="
)

TLOG_PROOF: Final = (
    b"c2sp.org/tlog-proof@v1\n"
    b"index 73894\n"
    b"gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n"
    b"B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n"
    b"EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=\n"
    b"RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=\n"
    b"AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=\n"
    b"\n"
    b"example.com/fancylog\n"
    b"109482\n"
    b"sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n"
)


def unhex(path: list[str]) -> list[bytes]:
    """Return the hashes of a published path."""
    return [bytes.fromhex(one) for one in path]


def reference_node(level: int, index: int) -> bytes:
    """Return a complete node of the tree over the reference leaves."""
    if level == 0:
        return leaf_hash(LEAVES[index])
    return node_hash(reference_node(level - 1, 2 * index), reference_node(level - 1, 2 * index + 1))


def test_empty_tree_has_the_published_root() -> None:
    """The root of the tree without leaves is the SHA-256 of nothing."""
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Frontier().root() == EMPTY_ROOT


@pytest.mark.parametrize("size", range(1, 9))
def test_reference_leaves_give_the_published_roots(size: int) -> None:
    """Appended one by one or at once, the reference leaves give the published roots."""
    hashes = [leaf_hash(leaf) for leaf in LEAVES[:size]]
    frontier = Frontier()
    for one in hashes:
        frontier = extend(frontier, [one]).frontier
    assert frontier.root() == ROOTS[size - 1]
    assert extend(Frontier(), hashes).root == ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_published_inclusion_proofs(index: int, size: int, path: list[str]) -> None:
    """The published inclusion proofs are made, and verified."""
    assert list(inclusion_path(index, size, reference_node)) == unhex(path)
    assert list(
        extend(Frontier(), [leaf_hash(leaf) for leaf in LEAVES[:size]]).path(index)
    ) == unhex(path)
    verify_inclusion(leaf_hash(LEAVES[index]), index, size, unhex(path), ROOTS[size - 1])


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY)
def test_published_consistency_proofs(old: int, new: int, path: list[str]) -> None:
    """The published consistency proofs are made, and verified."""
    assert list(consistency_path(old, new, reference_node)) == unhex(path)
    verify_consistency(old, new, unhex(path), ROOTS[old - 1], ROOTS[new - 1])


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_the_published_mutations_of_inclusion_proofs_are_refused(
    index: int, size: int, path: list[str]
) -> None:
    """Every mutation that the reference tests list is refused."""
    leaf, root, proof = leaf_hash(LEAVES[index]), ROOTS[size - 1], unhex(path)
    wrong: list[tuple[bytes, int, int, list[bytes], bytes]] = [
        *((leaf, other, size, proof, root) for other in (index - 1, index + 1, index ^ 2)),
        *((leaf, index, other, proof, root) for other in (size * 2, size // 2)),
        (b"WrongLeaf", index, size, proof, root),
        (leaf, index, size, proof, EMPTY_ROOT),
        (leaf, index, size, proof, SOME_HASH),
        *((leaf, index, size, [*proof, other], root) for other in (b"", root)),
        *((leaf, index, size, [other, *proof], root) for other in (b"", root)),
    ]
    for position, one in enumerate(proof):
        flipped = bytes((one[0] ^ 8,)) + one[1:]
        altered = [*proof[:position], flipped, *proof[position + 1 :]]
        wrong.append((leaf, index, size, altered, root))
    if proof:
        wrong.append((leaf, index, size, proof[:-1], root))
    if len(proof) > 1:
        wrong.append((leaf, index, size, [proof[0], SOME_HASH, *proof[1:]], root))
    for arguments in wrong:
        with pytest.raises(VerificationError):
            verify_inclusion(*arguments)


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY[1:])
def test_the_published_mutations_of_consistency_proofs_are_refused(
    old: int, new: int, path: list[str]
) -> None:
    """Every mutation that the reference tests list is refused."""
    old_root, new_root, proof = ROOTS[old - 1], ROOTS[new - 1], unhex(path)
    wrong: list[tuple[int, int, list[bytes], bytes, bytes]] = [
        *((other, new, proof, old_root, new_root) for other in (old - 1, old + 1, old ^ 2)),
        *((old, other, proof, old_root, new_root) for other in (new * 2, new // 2)),
        (old, new, proof, b"WrongRoot", new_root),
        (old, new, proof, old_root, b"WrongRoot"),
        (old, new, proof, new_root, old_root),
        (old, new, [], old_root, new_root),
        (old, new, proof[:-1], old_root, new_root),
        *((old, new, [*proof, one], old_root, new_root) for one in (b"", old_root, new_root)),
        *(
            (old, new, [one, *proof], old_root, new_root)
            for one in (b"", old_root, new_root, proof[0])
        ),
    ]
    for position, one in enumerate(proof):
        flipped = bytes((one[0] ^ 16,)) + one[1:]
        altered = [*proof[:position], flipped, *proof[position + 1 :]]
        wrong.append((old, new, altered, old_root, new_root))
    for arguments in wrong:
        with pytest.raises(VerificationError):
            verify_consistency(*arguments)


def test_rfc_9162_example() -> None:
    """The proofs of RFC 9162 §2.1.5 are made of the nodes that it names."""
    data = [b"d%d" % number for number in range(7)]

    def node(level: int, index: int) -> bytes:
        if level == 0:
            return leaf_hash(data[index])
        return node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

    a, b, c, d, e, f, j = (leaf_hash(one) for one in data)
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, ell = node_hash(g, h), node_hash(i, j)
    assert inclusion_path(0, 7, node) == (b, h, ell)
    assert inclusion_path(3, 7, node) == (c, g, ell)
    assert inclusion_path(4, 7, node) == (f, j, k)
    assert inclusion_path(6, 7, node) == (i, k)
    assert consistency_path(3, 7, node) == (c, d, g, ell)
    assert consistency_path(4, 7, node) == (ell,)
    assert consistency_path(6, 7, node) == (i, j, k)


@pytest.mark.parametrize(
    ("vkey", "note", "body"),
    [
        (SPEC_KEY, SPEC_NOTE, b"This is an example message.\n"),
        (GO_KEY, GO_TEXT + b"\n" + GO_LINE, GO_TEXT),
    ],
)
def test_published_notes_verify(vkey: str, note: bytes, body: bytes) -> None:
    """The published notes verify under the published keys, which survive their text form."""
    key = NoteKey.parse(vkey)
    verified = verify_note(note, [key])
    assert (verified.body, verified.keys, verified.unknown) == (body, (key,), ())
    assert str(key) == vkey
    assert parse_note(note).encode() == note


def test_signing_gives_the_published_note() -> None:
    """The published private key makes the published note, byte for byte."""
    signer = PrivateKeySigner(Ed25519PrivateKey.from_private_bytes(GO_PRIVATE))
    assert sign_note(GO_TEXT, Ed25519NoteSigner("PeterNeumann", signer)) == (
        GO_TEXT + b"\n" + GO_LINE
    )


def test_published_manglings_of_a_key_are_refused() -> None:
    """No part of a published key is a key, nor is one with a character raised by one."""
    mangled = {
        GO_KEY[start:end]
        for start in range(len(GO_KEY) + 1)
        for end in range(start + 1, len(GO_KEY) + 1)
    } - {GO_KEY}
    mangled |= {
        GO_KEY[:place] + chr(ord(GO_KEY[place]) + 1) + GO_KEY[place + 1 :]
        for place in range(len(GO_KEY))
    }
    mangled |= {
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    }
    for text in mangled:
        with pytest.raises(MalformedError):
            NoteKey.parse(text)


@pytest.mark.parametrize(("size", "root", "signature"), SUMDB)
def test_checkpoints_of_a_public_log_verify(size: int, root: str, signature: str) -> None:
    """Checkpoints of sum.golang.org verify, and are refused one leaf larger."""
    key = NoteKey.parse(SUMDB_KEY)
    lines = f"{root}\n\n\N{EM DASH} sum.golang.org {signature}\n"
    checkpoint = verify_checkpoint(
        f"{SUMDB_ORIGIN}\n{size}\n{lines}".encode(), key, origin=SUMDB_ORIGIN
    )
    assert (checkpoint.size, checkpoint.root) == (size, b64decode(root))
    with pytest.raises(VerificationError):
        verify_checkpoint(f"{SUMDB_ORIGIN}\n{size + 1}\n{lines}".encode(), key, origin=SUMDB_ORIGIN)


def test_cosignature_example_has_the_published_time() -> None:
    """The example of the specification is a key id, the time it prints, and a signature."""
    note = parse_note(f"text\n\n\N{EM DASH} witness.example.com/w1 {COSIGNATURE_LINE}\n".encode())
    material = note.signatures[0].signature
    assert len(material) == 8 + 64
    assert int.from_bytes(material[:8]) == 1679315147


def test_published_mldsa_checkpoint_verifies() -> None:
    """A log's own ML-DSA-44 signature verifies; with another size, root or time it is refused."""
    private = MLDSA44PrivateKey.from_seed_bytes(bytes.fromhex(MLDSA_SEED))
    key = MLDSA44Cosigner(MLDSA_NAME, private).key
    assert key.key_id.hex() == MLDSA_ID
    note = parse_note(MLDSA_BODY + f"\n\N{EM DASH} {MLDSA_NAME} {MLDSA_LINE}\n".encode())
    assert verify_cosignature(note.body, note.signatures[0], key).timestamp == 0
    other = MLDSA_BODY.replace(b"\n1\n", b"\n2\n")
    with pytest.raises(VerificationError):
        verify_cosignature(other, note.signatures[0], key)


@pytest.mark.parametrize(
    ("path", "tile"),
    [
        ("tile/0/x001/x234/067", Tile(0, 1234067)),
        ("tile/2/000.p/1", Tile(2, 0, 1)),
        ("tile/entries/x001/x234/067.p/112", EntryBundle(1234067, 112)),
    ],
)
def test_published_tile_paths(path: str, tile: Tile | EntryBundle) -> None:
    """The paths of the specification mean the tiles that it says."""
    assert parse_tile_path(path) == tile
    if isinstance(tile, Tile):
        assert tile_path(tile.level, tile.index, tile.width) == path


def test_published_tiles_of_a_tree() -> None:
    """A tree of 70,000 leaves, and one of 256, have the tiles that the specification counts."""

    def widths(size: int) -> list[list[int]]:
        rows = []
        for level in range(4):
            row = [width for index in range(300) if (width := tile_width(level, index, size)) > 0]
            rows.append(row)
        return rows

    assert widths(70_000) == [[256] * 273 + [112], [256, 17], [1], []]
    assert widths(256) == [[256], [1], [], []]


def test_published_tlog_proof_is_read() -> None:
    """The example of the specification has its index, its path and its checkpoint."""
    proof = parse_tlog_proof(TLOG_PROOF)
    assert (proof.extra, proof.index, len(proof.path)) == (None, 73894, 5)
    assert proof.path[0] == b64decode("gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=")
    assert proof.checkpoint.startswith(b"example.com/fancylog\n109482\n")
    assert proof.encode() == TLOG_PROOF


def second_reader(data: bytes, leaf: bytes, public: bytes) -> dict[Any, Any]:
    """Verify a receipt as RFC 9942 says, with nothing of this project; return its header."""
    message = cbor2.loads(data)
    assert message.tag == 18
    protected, unprotected, payload, signature = message.value
    assert payload is None
    header: dict[Any, Any] = cbor2.loads(protected)
    assert (header[1], header[395]) == (-8, 1)
    size, index, path = cbor2.loads(unprotected[396][-1][0])
    # RFC 9162 §2.1.3.2, as its text has it.
    position, last = index, size - 1
    root = hashlib.sha256(b"\x00" + leaf).digest()
    for one in path:
        assert last != 0
        if position & 1 or position == last:
            root = hashlib.sha256(b"\x01" + one + root).digest()
            while not position & 1 and position != 0:
                position >>= 1
                last >>= 1
        else:
            root = hashlib.sha256(b"\x01" + root + one).digest()
        position >>= 1
        last >>= 1
    assert last == 0
    signed = cbor2.dumps(["Signature1", protected, b"", root])
    Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    return header


@pytest.mark.parametrize("before", [0, 1, 5, 255, 1000])
def test_receipts_verify_with_a_second_reader(before: int) -> None:
    """Receipts of every leaf of a commit are accepted by a reader made from the RFCs alone."""
    signer = PrivateKeySigner(Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
    ledger = LedgerSigner("verifier.example/ledger", signer)
    frontier = Frontier()
    if before:
        old = [leaf_hash(b"%d" % number) for number in range(before)]
        frontier = extend(frontier, old).frontier
    leaves = [encode_leaf(bytes([number]) * 32, bytes(32)) for number in range(9)]
    extension = extend(frontier, [leaf_hash(leaf) for leaf in leaves])
    origin = "verifier.example/ledger/2026-11"
    sealed = ledger.seal(origin, extension.frontier.size, extension.root)
    for number, leaf in enumerate(leaves):
        receipt = Receipt(leaf, before + number, extension.path(number), sealed)
        header = second_reader(receipt.cose(), leaf, ledger.key.public)
        assert header[4] == signer.public.thumbprint()
        assert header[15] == {1: f"https://{origin}"}


def test_key_types_are_those_of_the_specification() -> None:
    """Signature types have the numbers that signed-note and tlog-cosignature assign."""
    assert [*map(int, SignatureType)] == [0x01, 0x04, 0x06]
