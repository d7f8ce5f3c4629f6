"""The currencies of ISO 4217, and how many decimal places the smallest coin of each stands for.

Source: ISO 4217 list one, funds codes included; codes without a minor unit (metals, test and bond
market units) are no money to bill in. Codes withdrawn since 2020 stay, so that the books of the
years before can still be read.
"""

from __future__ import annotations

from kernel.errors import InvalidValue
from kernel.money import Asset

_BY_DIGITS: dict[int, str] = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
        AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD
        CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP
        GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK
        LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO
        NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS
        SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST
        XAD XCD XCG YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_WITHDRAWN_DIGITS_2 = "ANG BGN CUC HRK SLL ZWL"

MINOR_DIGITS: dict[str, int] = {
    **{code: digits for digits, codes in _BY_DIGITS.items() for code in codes.split()},
    **dict.fromkeys(_WITHDRAWN_DIGITS_2.split(), 2),
}


def is_currency(code: str) -> bool:
    """Whether a code is money, rather than a native unit such as tokens."""
    return code in MINOR_DIGITS


def currency(code: str, field: str = "currency") -> Asset:
    """The currency of a code, scaled to its minor unit; raises InvalidValue where there is none."""
    digits = MINOR_DIGITS.get(code)
    if digits is None:
        raise InvalidValue(field, f"{code!r} is not a currency of ISO 4217")
    return Asset(code, digits)
