"""The words of a second English hospital: telegraphic sentences, other terms for the same findings."""

from imitate.synthetic.phrases import ENGLISH, LUNGS, Statements

ABSENT: Statements = (
    (LUNGS, ("No parenchymal abnormality.", "Lung fields unremarkable.", "Clear lung fields.")),
    (frozenset({"Consolidation", "Pneumonia"}), ("No airspace shadowing.",)),
    (frozenset({"Consolidation"}), ("No lobar airspace shadowing.",)),
    (frozenset({"Pneumonia"}), ("No infective change.",)),
    (frozenset({"Edema"}), ("No congestion.", "Vascularity not increased.")),
    (
        frozenset({"Pleural Effusion", "Pneumothorax"}),
        ("Pleural spaces free of fluid and air.", "Pleura unremarkable."),
    ),
    (frozenset({"Pleural Effusion"}), ("No pleural fluid.", "Sinuses free.")),
    (frozenset({"Pneumothorax"}), ("No pleural air.",)),
    (frozenset({"Lung Lesion"}), ("No focal lesion.",)),
    (frozenset({"Cardiomegaly"}), ("CTR normal.", "Heart and mediastinum unremarkable.", "Heart not dilated.")),
    (frozenset({"Fracture"}), ("Bones unremarkable.", "No bony injury.")),
)

SOUTH = ENGLISH._replace(
    places={
        "upper": ("{side} UL", "{side} upper field", "{side} apical field"),
        "middle": ("{side} mid field", "{side} hilar field"),
        "lower": ("{side} LL", "{side} lower field", "{side} basal field"),
    },
    phrases={
        "Cardiomegaly": ("{degree}ly increased cardiothoracic ratio", "{degree}ly dilated heart"),
        "Edema": ("{degree} congestion with interstitial fluid", "{degree} pulmonary edema, perihilar"),
        "Pleural Effusion": ("{size} amount of {side} pleural fluid", "{size} {side} effusion"),
        "Pleural Effusion/both": ("{size} effusions on both sides", "pleural fluid on both sides, {size} effusions"),
        "Pneumothorax": ("{size} {side} pneumothorax", "{side} pleural air, {size}"),
        "Consolidation": ("{degree} airspace shadowing, {place}", "{place} consolidated, {degree}"),
        "Pneumonia": ("{degree} infective change, {place}", "{degree} pneumonic infiltrate, {place}"),
        "Atelectasis": ("{degree} volume loss with bands, {place}", "{degree} plate atelectasis, {place}"),
        "Lung Lesion": ("focal lesion, {mass}, {place}", "{mass}, {place}"),
        "COVID-19": (
            "{degree} peripheral ground-glass change on both sides, COVID-19 pattern",
            "{degree} COVID-19 type infiltrates on both sides",
        ),
        "Fracture": ("{side} rib fracture, {degree}ly displaced", "break of a {side} {zone} rib, {degree}ly displaced"),
        "Support Devices/endotracheal tube": ("ETT well placed", "tracheal tube above carina"),
        "Support Devices/enteric tube": ("NGT in stomach", "gastric tube below diaphragm"),
        "Support Devices/central venous line": ("right CVC, tip in atrium", "right jugular line"),
        "Support Devices/pacemaker": ("left PPM, single lead", "left pacing device, lead in ventricle"),
        "Foreign Object/button": ("{count} round metal density, {side} chest wall", "{side} button artefact, {count}"),
        "Foreign Object/clip": ("{count} square metal density, {side} chest wall", "{side} clip artefact, {count}"),
        "Foreign Object/necklace": ("chain around neck", "necklace artefact"),
    },
    affirmed=("{Phrase}.", "Known: {phrase}.", "{Phrase}, demonstrated."),
    doubted=("?{Phrase}.", "Query {phrase}.", "{Phrase} not excluded."),
    concluded=("{Phrase}.", "In summary {phrase}."),
    concluded_doubt=("Query {phrase}.", "{Phrase} to be excluded."),
    without_article=frozenset(),
    absent=ABSENT,
    unremarkable="Unremarkable study.",
    normal=("No active disease.", "No acute change.", "Unremarkable chest.", "NAD."),
    symptoms=("SOB", "pyrexia", "cough", "CP", "trauma", "pre-op"),
)  # fmt: skip
