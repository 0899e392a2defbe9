"""Reads a JSON list of envelopes and compares each with what SOAPpy makes of the same call."""

import json
import sys
import xml.etree.ElementTree as ElementTree

import SOAPpy

ENVELOPE = "{http://schemas.xmlsoap.org/soap/envelope/}"
TYPE = "{http://www.w3.org/1999/XMLSchema-instance}type"


def shape(element):
    """Names with namespaces, attributes, texts and children; types with the namespace that their prefix means."""
    children = [shape(child) for child in element]
    text = None if children else element.text or ""
    return (element.tag, sorted(element.attrib.items()), text, children)


calls = json.load(sys.stdin)
for ours in calls:
    root = ElementTree.fromstring(ours.encode())
    method = root.find(ENVELOPE + "Body")[0]
    namespace, _, name = method.tag.rpartition("}")
    assert all(argument.get(TYPE) == "xsd:string" for argument in method), ours
    assert 'xmlns:xsd="http://www.w3.org/1999/XMLSchema"' in ours, ours
    arguments = tuple(argument.text or "" for argument in method)
    theirs = SOAPpy.buildSOAP(args=arguments, method=name, namespace=namespace[1:] or None)
    theirs = theirs if isinstance(theirs, str) else theirs.decode()
    assert 'xmlns:xsd="http://www.w3.org/1999/XMLSchema"' in theirs, theirs
    # What SOAPpy writes as it is, its reader would change.
    assert shape(root) == shape(ElementTree.fromstring(theirs.replace("\r", "&#13;").encode())), (ours, theirs)
print(len(calls), "the same")
