"""Tax ids: which kind one is, whether its format and check digits hold, its compact form."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from types import ModuleType

from stdnum import exceptions
from stdnum.au import abn
from stdnum.br import cnpj
from stdnum.ca import bn
from stdnum.ch import vat as ch_vat
from stdnum.eu import vat as eu_vat
from stdnum.gb import vat as gb_vat
from stdnum.in_ import gstin
from stdnum.jp import cn
from stdnum.kr import brn
from stdnum.mx import rfc
from stdnum.no import mva
from stdnum.nz import ird
from stdnum.sg import uen
from stdnum.us import ein
from stdnum.za import tin

from kernel.errors import Kind, Refusal


class TaxIdKind(Enum):
    """Kinds of tax id that are checked."""

    EU_VAT = "EU_VAT"
    GB_VAT = "GB_VAT"
    US_EIN = "US_EIN"
    AU_ABN = "AU_ABN"
    IN_GSTIN = "IN_GSTIN"
    CH_VAT = "CH_VAT"
    NO_VAT = "NO_VAT"
    CA_BN = "CA_BN"
    NZ_IRD = "NZ_IRD"
    JP_CN = "JP_CN"
    SG_UEN = "SG_UEN"
    BR_CNPJ = "BR_CNPJ"
    MX_RFC = "MX_RFC"
    KR_BRN = "KR_BRN"
    ZA_TIN = "ZA_TIN"


_CHECKS: dict[TaxIdKind, ModuleType] = {
    TaxIdKind.EU_VAT: eu_vat,
    TaxIdKind.GB_VAT: gb_vat,
    TaxIdKind.US_EIN: ein,
    TaxIdKind.AU_ABN: abn,
    TaxIdKind.IN_GSTIN: gstin,
    TaxIdKind.CH_VAT: ch_vat,
    TaxIdKind.NO_VAT: mva,
    TaxIdKind.CA_BN: bn,
    TaxIdKind.NZ_IRD: ird,
    TaxIdKind.JP_CN: cn,
    TaxIdKind.SG_UEN: uen,
    TaxIdKind.BR_CNPJ: cnpj,
    TaxIdKind.MX_RFC: rfc,
    TaxIdKind.KR_BRN: brn,
    TaxIdKind.ZA_TIN: tin,
}
# Greece writes another prefix than its country's code.
_PREFIXES = {"GR": "EL"}


class TaxIdInvalid(Refusal):
    """A tax id is not what it says it is."""

    reason = "TAX_ID_INVALID"
    kind = Kind.INVALID

    def __init__(self, field: str, kind: TaxIdKind, why: str) -> None:
        super().__init__(
            f"{field} is no {kind.value}: {why}", field=field, tax_id_type=kind.value, why=why
        )


def compact_tax_id(text: str, kind: TaxIdKind) -> str:
    """The id without blanks and marks. Raises ValueError that says what is wrong."""
    try:
        found: str = _CHECKS[kind].validate(text)
    except exceptions.InvalidLength:
        raise ValueError("it has not the length of one") from None
    except exceptions.InvalidChecksum:
        raise ValueError("its check digits do not fit") from None
    except exceptions.InvalidComponent:
        raise ValueError("a part of it does not exist") from None
    except exceptions.ValidationError:
        raise ValueError("it has not the format of one") from None
    if kind is TaxIdKind.GB_VAT and not found.startswith("GB"):
        return f"GB{found}"
    return found


def check_tax_id(text: str, kind: TaxIdKind | None, field: str) -> str:
    """The id as it is kept: compact where its kind is stated, as it came where it is not.

    Raises TaxIdInvalid.
    """
    if kind is None or not text:
        return text
    try:
        return compact_tax_id(text, kind)
    except ValueError as error:
        raise TaxIdInvalid(field, kind, str(error)) from None


@lru_cache(maxsize=10_000)
def is_eu_vat(text: str, country: str) -> bool:
    """True where a text is a value added tax id of that member state."""
    try:
        found = compact_tax_id(text, TaxIdKind.EU_VAT)
    except ValueError:
        return False
    return found.startswith(_PREFIXES.get(country, country))
