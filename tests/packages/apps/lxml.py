"""Query and transform XML."""

from lxml import etree

from kluis.enclave import Enclave

app = Enclave("lxml")


@app.ecall
def check() -> str:
    """Query and transform XML."""
    tree = etree.fromstring("<rows><row n='1'/><row n='2'/><row n='39'/></rows>")
    sheet = etree.XML(
        '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">'
        '<xsl:template match="/"><sum><xsl:value-of select="sum(//@n)"/></sum></xsl:template>'
        "</xsl:stylesheet>"
    )
    return f"{len(tree.xpath('//row[@n > 1]'))} {etree.XSLT(sheet)(tree).getroot().text}"
